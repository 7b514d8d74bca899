"""``vargfacenet export``: a checkpoint as an ONNX file."""

from vargfacenet.commands.output import print_table, progress, verification_cells
from vargfacenet.options import check_range


def add_parser(commands, common):
    parser = commands.add_parser(
        "export",
        parents=[common],
        help="write a checkpoint as an ONNX file that is proved equal",
        description="Writes a checkpoint of this project or of the InsightFace lineage as an ONNX file: pictures RGB 0..255 "
        "in, any number at a time, embeddings out. The file is run in onnxruntime and must embed as MXNet does, or no file "
        "is left.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json; any network of the lineage")
    parser.add_argument("out", metavar="OUT.onnx", help="the file to write")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument(
        "--target",
        default="plain",
        help="whose form it takes: plain (default, smallest), onnxruntime, openvino, insightface",
    )
    parser.add_argument(
        "--verify", nargs="+", metavar="SET.bin", help="verification sets on which to score both MXNet and the file"
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.deploy.export import FAR, export_onnx
    from vargfacenet.deploy.targets import TARGETS
    from vargfacenet.eval import read_sets
    from vargfacenet.options import unknown

    check_range("--epoch", args.epoch, 0, 9999)
    if args.target not in TARGETS:
        raise unknown("target", args.target, TARGETS)
    sets = read_sets(args.verify) if args.verify else {}
    with progress(total=2 * sum(len(pairs.pictures) for pairs in sets.values()), unit="picture") as bar:
        done = export_onnx(args.prefix, args.epoch, args.out, target=args.target, sets=sets, progress=bar.update)
    print(f"{args.out}: {done.bytes / 1e6:.2f} MB, relative error {done.error:.1e} against MXNet")
    rows = [
        [name, runtime, *verification_cells(score)]
        for name, both in done.scores.items()
        for runtime, score in both.items()
    ]
    if rows:
        print_table(["set", "run by", "accuracy", "TAR@FAR=1e-3"], rows)
    if done.threshold is not None:
        print(f"one person from a cosine of {done.threshold:.4f} on, at a false accept rate of {FAR:g}")
    return 0
