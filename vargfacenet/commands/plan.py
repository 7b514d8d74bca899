"""``vargfacenet plan``: the memory and the epochs of a run, before it starts."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

from vargfacenet.commands.arguments import add_json_argument, add_set_argument, keep_old_spelling
from vargfacenet.commands.data.synth import BUILTIN
from vargfacenet.commands.output import json_writer, print_table
from vargfacenet.deploy.models import is_onnx
from vargfacenet.devices import parse_names
from vargfacenet.engines import chosen_engine
from vargfacenet.errors import SettingError
from vargfacenet.options import check_range, split_assignments
from vargfacenet.symbols import get_symbol
from vargfacenet.train.config import Config, resolve
from vargfacenet.train.plan import Place, Plan, Workload, gib, make_plan
from vargfacenet.train.plan_check import memory_here
from vargfacenet.train.recipes import is_demo
from vargfacenet.train.remedies import refusal
from vargfacenet.train.training_data import open_records

# MS1M-RetinaFace, for recipes at the paper's scale.
_PAPER = {"identities": 93_431, "images": 5_179_510}
_GIB = 1 << 30
_ENGINES = {"mxnet": "MXNet", "torch": "PyTorch"}


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Print, without training, the memory that a recipe needs on each device (network, activations, "
        "classifier, optimizer, input), and the number of updates in an epoch. Where it does not fit, print what would. "
        "Not counted is what the engine takes by itself: about 0.3 GiB on a CPU; on a GPU the CUDA context and cuDNN's "
        "workspaces. 'vargfacenet train' makes the same plan when it starts, against the memory that is free then.",
        examples=(
            "vargfacenet plan student --device 8",
            "vargfacenet plan teacher_r100 --device 8 --identities 1000000 --set head=sharded sample_rate=0.1",
            "vargfacenet plan small_student --device cpu:0 --data my_faces --json plan.json",
            "vargfacenet plan student --device cuda:0 --set precision=bfloat16 accumulate=4",
        ),
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe, such as student, or a file such as ./mine.py")
    add_set_argument(parser, what="settings", example="head=sharded sample_rate=0.1")
    hardware = parser.add_argument_group("hardware")
    hardware.add_argument(
        "--device",
        default="1",
        metavar="N|LIST",
        help="a number of GPUs (default 1), or devices separated by commas, such as cpu:0,cpu:1 or cuda:0",
    )
    hardware.add_argument(
        "--engine",
        metavar="NAME",
        help="mxnet, torch (PyTorch), or auto (default): torch on cuda devices; same as --set engine=NAME",
    )
    keep_old_spelling(hardware, "--devices", new="--device", dest="device")
    hardware.add_argument(
        "--machines", type=int, default=1, metavar="N", help="machines that train together (default 1)"
    )
    hardware.add_argument(
        "--memory",
        type=float,
        metavar="GiB",
        help="memory of a GPU, or of a machine whose CPUs train (default: that of this machine)",
    )
    work = parser.add_argument_group("data and teacher")
    work.add_argument("--data", nargs="+", metavar="DIR", help="training sets whose identities and images to count")
    work.add_argument(
        "--identities", type=int, metavar="N", help="identities, without --data (default: the paper's 93,431)"
    )
    work.add_argument(
        "--images", type=int, metavar="N", help="images in all, without --data (default: the paper's 5,179,510)"
    )
    work.add_argument(
        "--teacher-network",
        metavar="NETWORK",
        help="teacher that embeds each batch (default: its embeddings are stored)",
    )
    add_json_argument(parser.add_argument_group("output"), bare=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    engine = {"engine": args.engine} if args.engine else {}
    config = resolve(args.recipe, {**split_assignments(args.set), **engine})
    config.check()
    place = _place(args, config.engine)
    sizes = _sizes(args)
    teacher = args.teacher_network
    if teacher and is_onnx(teacher):
        raise SettingError(
            f"--teacher-network {teacher} is an ONNX file: expected the name of a network; leave it out for a teacher that "
            "onnxruntime runs, whose memory is not counted"
        )
    if teacher and not config.distils:
        raise SettingError(
            f"--teacher-network {teacher}: {args.recipe} does not distil; give --set distillation=angular"
        )
    work = Workload(**sizes, teacher=get_symbol(teacher) if teacher else None)
    plan = make_plan(config, place, work)
    with json_writer(args.json) as write_json:
        _print(args, config, place, work, plan)
        about = {"recipe": args.recipe, "engine": place.engine, "devices": f"{place.devices} {place.kind}"}
        about["machines"] = place.machines
        write_json({**about, **sizes, "batch_size": config.batch_size, **plan._asdict()})
    if plan.fits:
        return 0
    raise SettingError(refusal(config, place, work, plan))


def _place(args: argparse.Namespace, engine: str) -> Place:
    chosen = chosen_engine(args.device, engine)
    if args.device.strip().isdecimal():
        kind, count = "gpu", int(args.device)
    else:
        names = parse_names(args.device.replace("cuda", "gpu"))
        kinds = {kind for kind, _ in names}
        kind, count = kinds.pop(), len(names)
        if kinds:
            raise SettingError(f"--device {args.device}: expected CPUs or GPUs, not both")
    check_range("--device", count, 1, 1024)
    check_range("--machines", args.machines, 1, 1024)
    if args.memory is not None:
        check_range("--memory", args.memory, 0.001, 1e6, "GiB")
        memory: int | None = int(args.memory * _GIB)
    else:
        memory = memory_here(kind, chosen)
    return Place(kind, count, args.machines, memory, chosen)


def _sizes(args: argparse.Namespace) -> dict[str, int]:
    """Return ``identities`` and ``images`` of the training set."""
    given = {"identities": args.identities, "images": args.images}
    if args.data:
        if any(given.values()):
            raise SettingError(
                "--data has identities and images of its own: leave out --identities and --images, or --data"
            )
        with contextlib.closing(open_records(args.data)) as records:
            return {"identities": records.num_identities, "images": len(records)}
    known = {"identities": BUILTIN["identities"], "images": BUILTIN["identities"] * BUILTIN["images"]}
    sizes = {
        name: given[name] if given[name] is not None else (known if is_demo(args.recipe) else _PAPER)[name]
        for name in given
    }
    for name, value in sizes.items():
        check_range(f"--{name}", value, 1, 10**12)
    return sizes


def _print(args: argparse.Namespace, config: Config, place: Place, work: Workload, plan: Plan) -> None:
    many = f" on each of {place.machines} machines" if place.machines > 1 else ""
    on = f"{args.recipe} on {place.devices} {place.kind.upper()}(s){many} by {_ENGINES[place.engine]}"
    print(f"{on}: batch {config.batch_size}, ", end="")
    print(f"{config.batch_size // place.shards} a device; {work.identities:,} identities, {work.images:,} images")
    print()
    rows = [[name, f"{value / 2**20:,.1f}"] for name, value in plan.device.items() if value]
    print_table(["on the fullest device" if place.devices > 1 else "on the device", "MiB"], rows)
    print()
    print_table(["on the host", "MiB"], [[name, f"{value / 2**20:,.1f}"] for name, value in plan.host.items()])
    print()
    of = "each GPU" if place.kind == "gpu" else "all devices and the host together"
    print(f"{of}: {gib(plan.total)} GiB" + (f" of {gib(plan.limit)}" if plan.limit else ""))
    updates = config.max_updates * config.generations
    print(f"{plan.updates_per_epoch:,.1f} updates an epoch; {updates:,} updates are {plan.epochs:.1f} epochs, ", end="")
    print(f"{updates * config.batch_size:,} images")
