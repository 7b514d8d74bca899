"""``vargfacenet zoo``: all networks in one table and one picture."""

import json

from vargfacenet.commands.output import markdown_table, print_table, progress
from vargfacenet.options import check_range


def add_parser(commands, common):
    parser = commands.add_parser(
        "zoo",
        parents=[common],
        help="all networks side by side: published accuracy, parameters, FLOPs, milliseconds",
        description="Prints the networks with published accuracies, in percent, by FLOPs. Parameters and FLOPs are counted "
        "here, by the rule of the 2019 challenge; accuracies are those of the sources that --json names, on training sets "
        "that differ. --measure times the embedding of one image on this machine.",
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
    parser.add_argument("--picture", metavar="FILE.png", help="draw accuracy against FLOPs, and against milliseconds")
    parser.add_argument(
        "--accuracy", default="lfw", metavar="SET", help="that of the picture: lfw (default), cfp_fp, agedb or ijbc"
    )
    parser.add_argument("--json", metavar="FILE", help="write all of it, with the sources")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.bench.published import SETS, ZOO
    from vargfacenet.bench.zoo import draw_zoo, zoo
    from vargfacenet.files import write_text
    from vargfacenet.options import unknown

    check_range("--measure", args.measure, 0, 1000)
    if args.accuracy not in SETS:
        raise unknown("set", args.accuracy, SETS)
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
    if args.markdown:
        print(markdown_table(headers, cells), end="")
    else:
        print_table(headers, cells)
    if args.picture:
        draw_zoo(rows, args.picture, accuracy=args.accuracy)
        print(f"\npicture    {args.picture}")
    if args.json:
        content = [{**row._asdict(), "published": row.published._asdict()} for row in rows]
        write_text(args.json, json.dumps(content, indent=1) + "\n")
    return 0
