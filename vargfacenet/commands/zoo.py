"""``vargfacenet zoo``: all networks in one table and one plot."""

import argparse
from collections.abc import Callable

from vargfacenet.bench.published import SETS, ZOO
from vargfacenet.bench.zoo import draw_zoo, zoo
from vargfacenet.commands.arguments import add_json_argument, add_markdown_argument
from vargfacenet.commands.output import json_writer, markdown_table, print_table, progress
from vargfacenet.formats.files import write_text
from vargfacenet.options import check_range, unknown


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Print the networks with published accuracies, in percent, by FLOPs. Parameters and FLOPs are counted "
        "by the rule of the 2019 challenge. Accuracies are those of the sources that --json names, on training sets that "
        "differ. --measure times the embedding of one image on this machine.",
        examples=(
            "vargfacenet zoo",
            "vargfacenet zoo edgeface ghostfacenet --measure --plot zoo.png --json zoo.json",
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
    if args.accuracy not in SETS:
        raise unknown("set", args.accuracy, SETS)
    with json_writer(args.json) as write_json:
        bar = progress(total=len(ZOO), unit="network") if args.measure else None
        rows = zoo(args.networks, rounds=args.measure, progress=bar.update if bar is not None else None)
        if bar is not None:
            bar.close()
        headers = ["network", "parameters", "FLOPs", *SETS.values()] + (["ms"] if args.measure else [])
        cells = []
        for row in rows:
            accuracies = [getattr(row.published, name) for name in SETS]
            line = [row.published.title, f"{row.parameters:,}", f"{row.flops:,}"]
            line += ["-" if value is None else f"{value:.2f}" for value in accuracies]
            cells.append(line + ([f"{row.milliseconds:.1f}"] if args.measure else []))
        print_table(headers, cells)
        if args.plot:
            draw_zoo(rows, args.plot, accuracy=args.accuracy)
            print(f"\nplot       {args.plot}")
        if args.markdown:
            write_text(args.markdown, markdown_table(headers, cells))
        write_json([{**row._asdict(), "published": row.published._asdict()} for row in rows])
    return 0
