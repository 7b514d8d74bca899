"""``vargfacenet zoo``: all networks in one table and one plot, and all as ONNX files."""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Optional

from vargfacenet.bench.exports import FORMS, Exported, check_forms, export_forms
from vargfacenet.bench.published import SETS, Published
from vargfacenet.bench.zoo import Turns, ZooRow, draw_zoo, entries_of, zoo
from vargfacenet.commands.arguments import add_json_argument, add_markdown_argument
from vargfacenet.commands.output import check_writable, json_writer, markdown_table, print_table, progress
from vargfacenet.formats.files import write_text
from vargfacenet.options import check_range, unknown


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Print the networks in their published sizes, by FLOPs, with published accuracies in percent. Parameters "
        "and FLOPs are counted by the rule of the 2019 challenge. Accuracies are those of the sources that --json names, on "
        "training sets that differ. --measure and --throughput time the networks on this machine, --export writes each as "
        "ONNX files with random weights and compares these with MXNet.",
        examples=(
            "vargfacenet zoo",
            "vargfacenet zoo edgeface ghostfacenet --measure --plot zoo.png --json zoo.json",
            "vargfacenet zoo --throughput --batch-size 32 --markdown speed.md",
            "vargfacenet zoo pocketnet --export float32 int8",
        ),
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="such as edgeface (default: all)")
    parser.add_argument(
        "--measure",
        type=int,
        nargs="?",
        const=3,
        default=0,
        metavar="ROUNDS",
        help="time each network at batch 1, this many times 10 images (default 3)",
    )
    parser.add_argument(
        "--throughput",
        type=int,
        nargs="?",
        const=3,
        default=0,
        metavar="ROUNDS",
        help="images a second in batches, by embedding and by training, this many times (default 3)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="of --throughput (default: %(default)s)"
    )
    parser.add_argument(
        "--export",
        nargs="*",
        metavar="FORM",
        help=f"compare ONNX files with MXNet: {', '.join(title for title, _, _ in FORMS)} (default: all)",
    )
    parser.add_argument(
        "--plot", metavar="FILE.png", help="draw accuracy against FLOPs, and against milliseconds where measured"
    )
    parser.add_argument(
        "--accuracy",
        default="lfw",
        metavar="SET",
        help="accuracy in the plot: lfw (default), cfp_fp, agedb or ijbc",
    )
    add_json_argument(parser)
    add_markdown_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    check_range("--measure", args.measure, 0, 1000)
    check_range("--throughput", args.throughput, 0, 1000)
    check_range("--batch-size", args.batch_size, 1, 4096)
    check_forms(args.export or ())
    if args.accuracy not in SETS:
        raise unknown("set", args.accuracy, SETS)
    entries = entries_of(args.networks)
    check_writable(args.plot, args.markdown)
    turns = Turns(args.measure, args.throughput, args.batch_size)
    with json_writer(args.json) as write_json:
        measured = bool(args.measure or args.throughput)
        with progress(total=len(entries), unit="network") if measured else contextlib.nullcontext() as bar:
            rows = zoo(args.networks, turns=turns, progress=bar.update if bar is not None else None)
        headers, cells = _table(rows, turns)
        print_table(headers, cells)
        text = markdown_table(headers, cells)
        if args.plot:
            draw_zoo(rows, args.plot, accuracy=args.accuracy)
            print(f"\nplot       {args.plot}")
        found: list[dict[str, Any]] = [{**row._asdict(), "published": row.published._asdict()} for row in rows]
        write_json(found)
        if args.export is not None:
            text += _export(rows, found, args.export, write_json)
        if args.markdown:
            write_text(args.markdown, text)
    return 0


def _table(rows: Sequence[ZooRow], turns: Turns) -> tuple[list[str], list[list[str]]]:
    headers = ["network", "parameters", "FLOPs", *SETS.values()]
    headers += ["ms"] if turns.single else []
    headers += ["embedded/s", "trained/s"] if turns.batches else []
    cells = []
    for row in rows:
        line = [row.published.title, f"{row.parameters:,}", f"{row.flops:,}"]
        line += [_cell(getattr(row.published, name), ".2f") for name in SETS]
        measured = (row.milliseconds, row.embedded, row.trained)
        cells.append(line + [f"{value:.1f}" for value in measured if value is not None])
    return headers, cells


def _export(
    rows: Sequence[ZooRow], found: list[dict[str, Any]], forms: Sequence[str], write_json: Callable[[object], None]
) -> str:
    """Print the table of exports, add them to the JSON of their rows, and return the table in Markdown."""
    count = len(forms or FORMS)
    headers = ["network", "file", "MB", "error", "cosine", "OpenVINO error", "OpenVINO cosine", "float32 layers"]
    cells: list[list[str]] = []
    failures: list[str] = []
    with progress(total=len(rows) * count, unit="file") as bar:
        for row, content in zip(rows, found):
            exports = export_forms(row.published, forms=forms, progress=bar.update)
            content["exports"] = [one._asdict() for one in exports]
            write_json(found)  # after each network, so that a stop loses little
            cells += [_export_cells(row.published, one) for one in exports]
            failures += [f"{row.published.title}, {one.form}: {text}" for one in exports for text in one.failures]
    print()
    print_table(headers, cells)
    print(*failures, sep="\n")
    return "\n" + markdown_table(headers, cells) + "".join(f"\n- {failure}" for failure in failures)


def _export_cells(network: Published, one: Exported) -> list[str]:
    return [
        network.title,
        one.form,
        "-" if one.bytes is None else f"{one.bytes / 1e6:.2f}",
        _cell(one.error, ".1e"),
        _cell(one.cosine, ".4f"),
        _cell(one.openvino_error, ".1e"),
        _cell(one.openvino_cosine, ".4f"),
        str(one.float_layers or "-"),
    ]


def _cell(value: Optional[float], form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
