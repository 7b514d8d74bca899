"""The form of each convolution in training, native or MXNet's own: the one that was quicker when both were timed here.

MXNet's own convolution changes the layout of its input and its output where its neighbours are native operators, and that
is part of its time. What was timed is kept in the user's cache, by processor and version of the kernels, so that later runs
make the same choice. A process keeps its choice, until `keep_forms` replaces it by that of a training state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import mxnet as mx

from vargfacenet.errors import DataError, SettingError
from vargfacenet.formats.files import cache_folder, read_json, write_text
from vargfacenet.operators.library import load_library, processor
from vargfacenet.progress import progress
from vargfacenet.threads import one_thread

FORMS = ("native", "mxnet")
VARIABLE = "VARGFACENET_CONVOLUTIONS"  # environment variable: measured (the default), or one form for all
_IMAGES, _ROUNDS = 8, 5
# MXNet's own form is chosen below this share of the native one's time: it has to gain more than noise, because it takes
# more memory, for numbers in two layouts.
_GAIN = 0.8

log = logging.getLogger(__name__)
_kept: dict[str, str] = {}  # chosen by measurement, or given to `keep_forms`
_used: dict[str, str] = {}


class Shape(NamedTuple):
    """A convolution of an image (channels, height, width) that keeps its size, or halves it with a stride of 2."""

    channels: int
    height: int
    width: int
    outputs: int
    groups: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        image = f"{self.channels}x{self.height}x{self.width}"
        return f"{image}-{self.outputs}-groups{self.groups}-kernel{self.kernel}-stride{self.stride}"


def choose_forms(shapes: Iterable[Shape]) -> dict[Shape, str]:
    """Return the form of each convolution, timing those that were not timed on this processor before.

    SettingError where the environment variable VARGFACENET_CONVOLUTIONS is neither ``measured`` nor a form.
    """
    shapes, fixed = list(dict.fromkeys(shapes)), _fixed_form()
    if fixed is not None:
        forms = dict.fromkeys(shapes, fixed)
    else:
        unknown = [shape for shape in shapes if str(shape) not in _kept]
        times = _times_of(unknown) if unknown else {}
        _kept.update({str(shape): _quicker(times[str(shape)]) for shape in unknown})
        forms = {shape: _kept[str(shape)] for shape in shapes}
    _used.update({str(shape): form for shape, form in forms.items()})
    return forms


def forms_in_use() -> dict[str, str]:
    """Return the forms that were chosen in this process, by shape, for a training state."""
    return dict(_used)


def keep_forms(forms: Mapping[str, str]) -> None:
    """Let `choose_forms` choose the forms of a training state, so that a run continues on the same arithmetic.

    `forms_in_use` returns those chosen from then on.
    """
    _kept.clear()
    _used.clear()
    _kept.update({shape: form for shape, form in forms.items() if form in FORMS})


def describe_forms() -> str:
    """Return in one line what is chosen on this processor; SettingError as from `choose_forms`."""
    fixed = _fixed_form()
    if fixed is not None:
        return f"{fixed} ({VARIABLE})"
    times = _read(_times_path())
    others = [shape for shape, one in times.items() if _quicker(one) == "mxnet"]
    if not times:
        return "not timed on this processor yet: the first training does it"
    names = f" ({', '.join(others)})" if others else ""
    return f"{len(times)} timed on this processor: {len(times) - len(others)} native, {len(others)} MXNet's own{names}"


def time_forms(shape: Shape, *, images: int = _IMAGES, rounds: int = _ROUNDS) -> dict[str, float]:
    """Time a convolution between native operators, forward and backward, in each form: milliseconds, the median round.

    The time is that of one thread on the processor, which other programs disturb less than that of the clock. The system
    sometimes counts too little of it where threads are interrupted, so that the least is not the best estimate.
    """
    load_library()
    with one_thread():
        return _time_forms(shape, images, rounds)


def _time_forms(shape: Shape, images: int, rounds: int) -> dict[str, float]:
    executors = {form: _bind(form, shape, images) for form in FORMS}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(rounds + 1):
        for form, executor in executors.items():
            mx.nd.waitall()
            begin = time.process_time()
            executor.forward(is_train=True)
            executor.backward(executor.outputs)
            mx.nd.waitall()
            if number:  # the first round allocates memory
                times[form].append(1e3 * (time.process_time() - begin))
    return {form: statistics.median(one) for form, one in times.items()}


def convolution_symbol(form: str, shape: Shape, x: mx.sym.Symbol, name: str = "convolution") -> mx.sym.Symbol:
    """Return a convolution of `x` in one of `FORMS`."""
    weight = mx.sym.var(f"{name}_weight", shape=(shape.outputs, shape.channels // shape.groups, *2 * (shape.kernel,)))
    if form == "native":
        attrs = {"stride": str(shape.stride), "groups": str(shape.groups), "channels": str(shape.outputs)}
        return mx.sym.vargfacenet_convolution(x, weight, name=name, **attrs)
    size = {"kernel": 2 * (shape.kernel,), "stride": 2 * (shape.stride,), "pad": 2 * (shape.kernel // 2,)}
    counts = {"num_filter": shape.outputs, "num_group": shape.groups}
    return mx.sym.Convolution(x, weight, no_bias=True, name=name, **size, **counts)


def _bind(form: str, shape: Shape, images: int) -> mx.executor.Executor:
    x = mx.sym.vargfacenet_prelu(mx.sym.var("data"), mx.sym.var("before", shape=(shape.channels,)))
    y = convolution_symbol(form, shape, x)
    y = mx.sym.vargfacenet_prelu(y, mx.sym.var("after", shape=(shape.outputs,)))
    executor = y.simple_bind(mx.cpu(), data=(images, shape.channels, shape.height, shape.width))
    for array in executor.arg_dict.values():
        array[:] = 0.01  # the time does not depend on numbers, apart from the smallest ones
    return executor


def _fixed_form() -> str | None:
    """Return the form that the environment fixes for all convolutions; None where they are measured."""
    wanted = os.environ.get(VARIABLE) or "measured"
    if wanted not in ("measured", *FORMS):
        raise SettingError(f"{VARIABLE}={wanted}: expected measured, {' or '.join(FORMS)}")
    return wanted if wanted in FORMS else None


def _quicker(times: Mapping[str, float]) -> str:
    return "mxnet" if times["mxnet"] < _GAIN * times["native"] else "native"


def _times_of(shapes: Iterable[Shape]) -> dict[str, dict[str, float]]:
    """Return the times of convolutions from the cache, after timing those that it lacks and adding them to it."""
    path = _times_path()
    times = _read(path)
    missing = [shape for shape in shapes if str(shape) not in times]
    if missing:
        log.info("timing %d convolutions, native and MXNet's own, once on this processor", len(missing))
        found = {str(shape): time_forms(shape) for shape in progress(missing, desc="timing", unit="convolution")}
        times = {**found, **_read(path)}  # what another process has written meanwhile is what others will read
        try:
            write_text(path, json.dumps(times, indent=1) + "\n")
        except DataError as error:
            log.warning("the times of convolutions are not kept: %s", error)
    return times


def _times_path() -> pathlib.Path:
    facts = (load_library().path.stem, processor(), os.environ.get("DNNL_MAX_CPU_ISA", ""))
    return cache_folder() / f"convolutions-{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}.json"


def _read(path: pathlib.Path) -> dict[str, dict[str, float]]:
    """Return what a cache file holds, without what is not times."""
    try:
        content = read_json(path)
        times = {shape: {form: float(one[form]) for form in FORMS} for shape, one in content.items()}
    except (DataError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {shape: one for shape, one in times.items() if all(value > 0 for value in one.values())}
