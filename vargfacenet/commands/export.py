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
        "--precision",
        default="float32",
        help="what weights are kept in: float32 (default), fp16 or bf16 (half the size), int8 (a quarter)",
    )
    parser.add_argument(
        "--calibrate", metavar="PATH", help="faces for int8: a folder of aligned pictures or a .rec file"
    )
    parser.add_argument(
        "--calibration-pictures", type=int, default=96, metavar="N", help="how many of them (default: %(default)s)"
    )
    parser.add_argument(
        "--verify", nargs="+", metavar="SET.bin", help="verification sets on which to score both MXNet and the file"
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.deploy.export import FAR, export_onnx
    from vargfacenet.deploy.measure import milliseconds
    from vargfacenet.deploy.samples import LEAST, sample_pictures
    from vargfacenet.eval import read_sets

    check_range("--epoch", args.epoch, 0, 9999)
    check_range("--calibration-pictures", args.calibration_pictures, LEAST, 10000)
    sets = read_sets(args.verify) if args.verify else {}
    faces = sample_pictures(args.calibrate, args.calibration_pictures) if args.calibrate else None
    options = {"target": args.target, "precision": args.precision, "calibration": faces}
    with progress(total=2 * sum(len(pairs.pictures) for pairs in sets.values()), unit="picture") as bar:
        done = export_onnx(args.prefix, args.epoch, args.out, **options, sets=sets, progress=bar.update)
    print(f"{args.out}: {done.bytes / 1e6:.2f} MB")
    print(f"against MXNet: relative error {done.error:.1e}, mean cosine {done.cosine:.5f}")
    if done.kept:
        print(f"kept in float32: {', '.join(done.kept)}")
    for runtime, (one, many) in milliseconds(args.out).items():
        print(f"{runtime}: {one:.2f} ms for a picture, {many:.2f} ms each of 32")
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
