"""Measure the speed of training on a device: ``python -m vargfacenet.torch.measure --device cuda:0 --batch 128 512``.

Whole updates of VarGFaceNet with margin loss and cached distillation on random images that are on the host, as a data iterator
leaves them. Forms take turns in rounds; medians are given, and on a GPU the share of the time in which the convolutions and
products could have been done at the device's peak, where that is named (``--peak-tflops``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np
import torch
from torch.profiler import ProfilerActivity

from vargfacenet import IMAGE_SHAPE
from vargfacenet.formats.files import write_text
from vargfacenet.options import split_assignments
from vargfacenet.symbols.complexity import complexity
from vargfacenet.torch.build import make_trainer
from vargfacenet.torch.devices import parse_torch_devices
from vargfacenet.train.build import make_optimizer
from vargfacenet.train.config import Config, resolve
from vargfacenet.train.engine import LaunchingTrainer
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.runtime import Runtime

FORMS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, channels last": {"channels_last": True},
    "bf16": {"precision": "bfloat16", "channels_last": True},
    "bf16, recorded": {"precision": "bfloat16", "channels_last": True, "cuda_graphs": True},
    "bf16, compiled": {"precision": "bfloat16", "channels_last": True, "compile": True},
}
_IDENTITIES = 93_431  # of MS1M-RetinaFace


class Figure(NamedTuple):
    """Result of one form: images per second in the median and the best round, and the peak memory of the device.

    The memory is 0 where it is not known: on a CPU, and of recorded passes.
    """

    form: str
    batch: int
    images_per_second: float
    best: float
    peak_bytes: int


class Work(NamedTuple):
    """Rounds after the one that warms up, updates of a round, identities, and a file for the operators of the last form."""

    rounds: int
    updates: int
    identities: int
    profile: str | None = None


def measure(
    device: torch.device, settings: Mapping[str, Any], batch: int, *, forms: list[str], work: Work
) -> list[Figure]:
    """Return a figure of each form; they take turns, one round each. A form whose memory does not suffice is left out."""
    trainers, given = {}, None
    for form in forms:
        config = resolve(
            "student", {**settings, **FORMS[form], "engine": "torch", "batch_size": batch, "distillation": "angular"}
        )
        symbol = config.build_symbol()
        try:
            trainers[form] = make_trainer(
                config,
                symbol,
                work.identities,
                sgd=make_optimizer(config),
                generation=1,
                first_update=0,
                runtime=Runtime([device]),
            )
        except torch.cuda.OutOfMemoryError:
            _leave_out(form, batch, device)
        given = given or _batch(config, embedding_size_of(symbol), work.identities)
    seconds: dict[str, list[float]] = {form: [] for form in trainers}
    peaks = {}
    for number in range(work.rounds + 1):
        for form, trainer in list(trainers.items()):
            try:
                taken, peak = _round(trainer, given, device, work.updates)
                peaks[form] = 0 if FORMS[form].get("cuda_graphs") else peak  # what is recorded keeps memory of its own
            except torch.cuda.OutOfMemoryError:
                _leave_out(form, batch, device)
                del trainers[form], seconds[form]
                continue
            if number:
                seconds[form].append(taken / work.updates)
    if work.profile and trainers:
        form, trainer = list(trainers.items())[-1]
        write_text(work.profile, f"{form}, batch {batch}\n{_profiled(trainer, given, device)}\n")
    return [
        Figure(form, batch, batch / statistics.median(times), batch / min(times), peaks[form])
        for form, times in seconds.items()
    ]


def _leave_out(form: str, batch: int, device: torch.device) -> None:
    sys.stderr.write(f"{form}, batch {batch}: the memory of {device} does not suffice\n")


def _profiled(trainer: LaunchingTrainer, given: Any, device: torch.device) -> str:
    """Return PyTorch's table of the operators of three updates, the slowest first."""
    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        _round(trainer, given, device, 3)
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=40)


def _batch(config: Config, size: int, identities: int) -> tuple[list[mx.nd.NDArray], list[mx.nd.NDArray]]:
    random = np.random.RandomState(0)
    images = mx.nd.array(random.randint(0, 256, (config.batch_size, *IMAGE_SHAPE)))
    teacher = mx.nd.array(random.normal(size=(config.batch_size, size)))
    return [images, teacher], [mx.nd.array(random.randint(0, identities, config.batch_size))]


def _round(trainer: LaunchingTrainer, given: Any, device: torch.device, updates: int) -> tuple[float, int]:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    for _ in range(updates):
        step = trainer.launch(mx.io.DataBatch(*given))
    step.result()
    if on_gpu:
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - begin
    return taken, torch.cuda.max_memory_allocated(device) if on_gpu else 0


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for, print a table and write the figures."""
    parser = argparse.ArgumentParser(prog="vargfacenet.torch.measure", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, nargs="+", default=[512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--identities", type=int, default=_IDENTITIES)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the device, in the precision of the forms")
    parser.add_argument("--set", nargs="+", default=[], metavar="OPTION=VALUE", help="of the network")
    parser.add_argument("--profile", metavar="FILE", help="write the operators of the last form at the last batch")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args(arguments)
    [device] = parse_torch_devices(args.device)
    forms = [form for form in args.forms if not (args.no_compile and FORMS[form].get("compile"))]
    settings = {"embedding_size": "512", **split_assignments(args.set)}
    work = Work(args.rounds, args.updates, args.identities, args.profile)
    if device.type != "cuda":
        forms = [form for form in forms if not FORMS[form].get("cuda_graphs")]
    if not forms:
        parser.error(f"none of the forms {', '.join(args.forms)} can be measured on {device}")
    flops = 3 * complexity(resolve("student", settings).build_symbol()).flops  # forward once, backward twice
    figures = []
    for batch in args.batch:
        found = measure(device, settings, batch, forms=forms, work=work)
        figures += found
        _show(found, flops, args.peak_tflops)
    if args.json:
        about = {"device": _name(device), "torch": torch.__version__, "flops_per_image": flops, **work._asdict()}
        content = {**about, "figures": [one._asdict() for one in figures]}
        write_text(args.json, json.dumps(content, indent=1) + "\n")
    return 0


def _show(figures: list[Figure], flops: int, peak_tflops: float | None) -> None:
    for one in figures:
        line = f"{one.form:24} batch {one.batch:4}  {one.images_per_second:9.1f} images/s (best {one.best:.1f})"
        line += f"  {one.peak_bytes / 2**30:.2f} GiB" if one.peak_bytes else ""
        if peak_tflops:
            line += f"  {one.images_per_second * flops / peak_tflops / 1e12:.1%} of peak"
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    sys.exit(main())
