"""``vargfacenet bench``: the speed of everything on this machine, next to its rivals."""

import argparse
import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mxnet as mx

from vargfacenet import bench
from vargfacenet.bench import contest_report, draw, machine, matrix_share, operator_table, table, take_turns
from vargfacenet.bench.contests import Contest
from vargfacenet.bench.growth import draw_growth, measure_growth
from vargfacenet.bench.kernels import kernel_table, measure_kernels, network_shapes
from vargfacenet.commands.arguments import add_json_argument, add_set_argument
from vargfacenet.commands.output import check_writable, json_writer, print_table, progress
from vargfacenet.data import RecordSet
from vargfacenet.data.layout import pack
from vargfacenet.data.synth import draw_faces
from vargfacenet.data.writer import write_records
from vargfacenet.errors import SettingError
from vargfacenet.free_memory import host_memory
from vargfacenet.operators import BACKENDS, missing_for_native
from vargfacenet.options import check_range, split_assignments, unknown
from vargfacenet.symbols import get_symbol

INPUT_IMAGES = 6400  # of a turn of "input"
KINDS = {
    "train": "training: images a second and memory, by backend; time spent waiting for data",
    "profile": "time of an update, operator by operator",
    "infer": "embedding: ms an image, in batches and one at a time",
    "deploy": "one image outside MXNet: onnxruntime and OpenVINO",
    "input": "images a second from record file to decoded, shuffled batch",
    "verify": "the ten-fold protocol",
    "pairs": "all pairs of 20,000 x 20,000 features",
    "start": "import and command line",
}
ALONE = {
    "classifier": "seconds and memory of an update by number of identities: dense, sharded, sampled",
    "threads": "training and embedding by number of threads",
    "kernels": "GFLOP/s of each native convolution, and the time of MXNet's own",
    "challenge": "all pairs of 1,862,120 x 5,000 features: 4 GB on the disk",
    "templates": "the protocols of IJB-C at its size: 6 GB of memory",
}


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Measure contenders in rounds in which they take turns, each in a process of its own, so that other "
        "work on the machine affects all alike. The result is the median over the rounds, and how many times faster the "
        "first contender was in the same rounds.\n\n"
        + "\n\n".join(
            "\n".join([f"  {title}:", *(f"    {kind:<11} {about}" for kind, about in kinds.items())])
            for title, kinds in (("kinds, all measured by default", KINDS), ("kinds measured one at a time", ALONE))
        ),
        examples=(
            "vargfacenet bench",
            "vargfacenet bench train infer --network vargfacenet --set multiplier=0.5 --rivals",
            "vargfacenet bench kernels --rounds 20",
            "vargfacenet bench classifier --identities 10000 100000 --json growth.json --plot growth.png",
        ),
    )
    parser.add_argument("kinds", metavar="KIND", nargs="*", help="what to measure, from the lists above")
    work = parser.add_argument_group("work")
    work.add_argument("--network", default="vargfacenet", metavar="NAME", help="a network (default: %(default)s)")
    add_set_argument(work, what="options of the network", example="multiplier=0.5")
    work.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at a time (default: %(default)s)")
    work.add_argument("--data", metavar="DIR", help="training set to decode (default: 2,000 drawn faces)")
    work.add_argument(
        "--identities",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 300_000, 1_000_000],
        metavar="N",
        help="sizes of the classifier (default: ten thousand to a million)",
    )
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="turns of each contender (default: %(default)s)"
    )
    measuring.add_argument(
        "--updates", type=int, default=2, metavar="N", help="updates in a turn of training (default: %(default)s)"
    )
    measuring.add_argument(
        "--rivals",
        action="store_true",
        help="measure PyTorch and OpenVINO too, which are installed into environments of their own",
    )
    output = parser.add_argument_group("output")
    add_json_argument(output)
    output.add_argument("--plot", metavar="FILE", help="draw the results into this PNG file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    kinds = _kinds(args)
    check_writable(args.plot)
    with json_writer(args.json) as write_json:
        if "classifier" in kinds:
            _measure_classifier(args, write_json)
        elif "kernels" in kinds:
            _measure_kernels(args, write_json)
        else:
            _measure_contests(args, kinds, write_json)
    return 0


def _measure_contests(args: argparse.Namespace, kinds: Sequence[str], write_json: Callable[[object], None]) -> None:
    options = split_assignments(args.set)
    get_symbol(args.network, **options)  # refuses an unknown network or option
    reports: list[dict[str, Any]] = []
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    with contextlib.ExitStack() as stack:
        for contest in _contests(args, kinds, options, stack):
            turns = len(contest.contenders) * (args.rounds + 1)
            with progress(total=turns, desc=contest.title, unit="turn") as bar:
                outcomes = take_turns(contest.contenders, rounds=args.rounds, progress=bar.update)
            report = contest_report(contest, outcomes)
            reports.append(report)
            print(f"\n{report['title']}")
            print_table(*table(report))
            _print_more(report)
            # After each contest, so that a stop loses little.
            write_json({"machine": about, "rounds": args.rounds, "contests": reports})
    if args.plot and any(len(report["rows"]) > 1 for report in reports):
        draw(reports, args.plot)


def _measure_classifier(args: argparse.Namespace, write_json: Callable[[object], None]) -> None:
    """Measure without rounds: each size takes long enough for a stable figure."""
    for count in args.identities:
        check_range("--identities", count, 2, 1 << 24)
    limit = host_memory() // 2
    print(f"an update of 64 embeddings of 512; what is planned to take more than {limit / 2**30:.1f} GiB is left out")
    total = len(args.identities) * 3
    with progress(total=total, desc="classifiers", unit="size") as bar:
        report = measure_growth(args.identities, limit=limit, progress=lambda _: bar.update())
    rows = []
    for run in report["runs"]:
        found = [f"{run['seconds']:.3f}", f"{run['bytes'] / 2**30:.2f}"] if "seconds" in run else ["-", "-"]
        name = run["head"] if run["sample_rate"] >= 1 else f"{run['head']}, {run['sample_rate']:g} sampled"
        rows.append([name, f"{run['identities']:,}", *found, f"{run['planned'] / 2**30:.2f}"])
    print_table(["classifier", "identities", "s an update", "GiB", "GiB planned"], rows)
    write_json(report)
    if args.plot:
        draw_growth(report, args.plot)


def _measure_kernels(args: argparse.Namespace, write_json: Callable[[object], None]) -> None:
    options, about = split_assignments(args.set), machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    with progress(total=len(network_shapes(args.network, options)), desc="convolutions", unit="shape") as bar:
        report = measure_kernels(args.network, options, images=args.batch_size, rounds=args.rounds, progress=bar.update)
    print(
        f"a core computes at most {report['peak']:.0f} GFLOP/s; rates are those of a core, median of {args.rounds} rounds"
    )
    print_table(*kernel_table(report))
    write_json({"machine": about, "rounds": args.rounds, **report})


def _kinds(args: argparse.Namespace) -> list[str]:
    for option in ("batch_size", "rounds", "updates"):
        check_range(f"--{option.replace('_', '-')}", getattr(args, option), 1, 100000)
    for kind in args.kinds:
        if kind not in (*KINDS, *ALONE):
            raise unknown("kind of benchmark", kind, [*KINDS, *ALONE])
        if kind in ALONE and len(args.kinds) > 1:
            raise SettingError(f"{kind} is measured by itself: leave the other kinds out")
    return args.kinds or list(KINDS)


def _contests(
    args: argparse.Namespace, kinds: Sequence[str], options: Mapping[str, Any], stack: contextlib.ExitStack
) -> Iterator[Contest]:
    """Give the contests of `kinds` one after another; the files that one needs are made just before it."""
    backends = _backends()
    training = {"batch_size": args.batch_size, "updates": args.updates}
    network = (args.network, options)
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if "input" in kinds or "train" in kinds:
        data = pathlib.Path(args.data) if args.data else _draw_set(folder / "set")
    if "train" in kinds:
        pytorch = bench.rival_python("pytorch") if args.rivals else None
        yield bench.training(*network, **training, backends=backends, pytorch=pytorch)
        yield bench.waiting(*network, **training, data=data)
    if "threads" in kinds:
        yield from bench.scaling(*network, **training)
    if "profile" in kinds:
        yield bench.profile(*network, **training, backends=[backends[0], "stock"])
    if "infer" in kinds:
        for batch_size, batches in ((args.batch_size, 4), (1, 20)):
            yield bench.embedding(*network, batch_size=batch_size, batches=batches, backends=backends)
    if "deploy" in kinds:
        openvino = bench.rival_python("openvino") if args.rivals else None
        yield bench.deployed(*network, folder=folder, batches=20, openvino=openvino)
    if "input" in kinds:
        records = _plain_records(data, folder / "plain.rec")
        yield bench.feeding(data, records, batch_size=args.batch_size, batches=max(1, INPUT_IMAGES // args.batch_size))
    if "verify" in kinds:
        for thresholds in (400, 4000):
            yield bench.verifying(pairs=6000, thresholds=thresholds)
    for kind, rows, others in (("pairs", 20_000, 20_000), ("challenge", 1_862_120, 5_000)):
        if kind in kinds:
            yield bench.pairing(rows=rows, others=others, folder=folder)
    if "start" in kinds:
        yield bench.starting()
    if "templates" in kinds:
        yield bench.pooling(images=469_375, templates=23_124, gallery=3_531, pairs=15_658_489)


def _backends() -> list[str]:
    missing = missing_for_native()
    if missing:
        print(f"native operators are left out: {missing}")
    return [backend for backend in BACKENDS if backend != "native" or not missing]


def _draw_set(folder: pathlib.Path) -> pathlib.Path:
    write_records(folder, draw_faces(num_identities=20, images_per_identity=100))
    return folder


def _plain_records(data: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Write the images of a training set alone to a record file, for readers that cannot skip index records."""
    records, writer = RecordSet(data), mx.recordio.MXRecordIO(str(path), "w")
    with contextlib.closing(records), contextlib.closing(writer):
        for key in records.keys:
            record = records.read(int(key))
            writer.write(pack(float(record.labels[0]), int(key), record.image))
    return path


def _print_more(report: Mapping[str, Any]) -> None:
    for row in report["rows"]:
        if "milliseconds" in row:
            print(f"\n{row['name']}: {matrix_share(row):.0%} in convolutions and matrix products")
            print_table(*operator_table(row))
        elif "peak_mib" in row and report["title"].startswith(("training", "all pairs", "templates")):
            waited = f", {row['waited']:.1%} of the time waiting for data" if "with its data" in report["title"] else ""
            print(f"{row['name']}: {row['peak_mib']:.0f} MiB at most{waited}")
