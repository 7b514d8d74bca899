"""``vargfacenet export``: a checkpoint as an ONNX file."""

import argparse
import pathlib
from collections.abc import Callable

from vargfacenet.commands.model_options import split_name
from vargfacenet.commands.output import print_table, progress, verification_cells
from vargfacenet.deploy.export import check_request, export_onnx
from vargfacenet.deploy.measure import milliseconds
from vargfacenet.deploy.samples import LEAST, sample_images
from vargfacenet.errors import SettingError
from vargfacenet.eval import read_sets
from vargfacenet.formats.checkpoint import checkpoint_files
from vargfacenet.options import check_range

_OTHER_FORMATS = (
    *(".bin", ".engine", ".h5", ".keras", ".mlmodel", ".mlpackage", ".mnn", ".param", ".params", ".pb", ".pt", ".pth"),
    *(".safetensors", ".tflite", ".trt", ".xml"),
)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Writes a checkpoint of this project or of the InsightFace lineage as an ONNX file: images RGB 0..255 "
        "in, any number at a time, embeddings out. The file is run in onnxruntime and must embed as MXNet does, or no file "
        "is left.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json; any network of the lineage")
    parser.add_argument("out", metavar="OUT.onnx", help="the file to write; of several precisions, a folder for them")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument(
        "--target",
        default="plain",
        help="whose form it takes: plain (default, smallest), onnxruntime, openvino, insightface",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["float32"],
        metavar="P",
        help="what weights are kept in: float32 (default), fp16 or bf16 (half the size), int8 (a quarter); several make "
        "several files, compared in a table",
    )
    parser.add_argument("--calibrate", metavar="PATH", help="faces for int8: a folder of aligned images or a .rec file")
    parser.add_argument(
        "--calibration-images", type=int, default=96, metavar="N", help="how many of them (default: %(default)s)"
    )
    parser.add_argument(
        "--verify", nargs="+", metavar="SET.bin", help="verification sets on which to score both MXNet and the file"
    )
    parser.set_defaults(run=run)


def run(args):
    check_range("--epoch", args.epoch, 0, 9999)
    args.prefix, args.epoch = split_name(args.prefix, args.epoch)
    check_range("--calibration-images", args.calibration_images, LEAST, 10000)
    suffix = pathlib.PurePath(args.out).suffix.lower()
    if suffix in _OTHER_FORMATS:
        name = pathlib.PurePath(args.out).with_suffix(".onnx")
        raise SettingError(
            f"{args.out}: {suffix} is not written: name it {name}; what is written is ONNX, which converters of other projects "
            "turn into other formats"
        )
    sets = read_sets(args.verify) if args.verify else {}
    faces = sample_images(args.calibrate, args.calibration_images) if args.calibrate else None
    for precision in args.precision:
        check_request(args.target, precision, faces)
    options = {"target": args.target, "calibration": faces, "sets": sets}
    return _run_one(args, options) if len(args.precision) == 1 else _run_several(args, options)


def _run_one(args, options):
    with _progress(options["sets"], 2) as bar:
        done = export_onnx(
            args.prefix, args.epoch, args.out, precision=args.precision[0], **options, progress=bar.update
        )
    print(f"{args.out}: {done.bytes / 1e6:.2f} MB")
    print(f"against MXNet: relative error {done.error:.1e}, mean cosine {done.cosine:.5f}")
    if done.kept:
        print(f"kept in float32: {', '.join(done.kept)}")
    for runtime, (one, many) in milliseconds(args.out).items():
        print(f"{runtime}: {one:.2f} ms for an image, {many:.2f} ms each of 32")
    rows = [
        [name, runtime, *verification_cells(score)]
        for name, both in done.scores.items()
        for runtime, score in both.items()
    ]
    if rows:
        print_table(["set", "run by", "accuracy", "TAR@FAR=1e-3"], rows)
    if done.threshold is not None:
        print(f"one person above a cosine of {done.threshold:.4f}, at a false accept rate of {done.far:g}")
    elif options["sets"]:
        print("no threshold: the set has too few pairs of different people for a false accept rate of 0.1")
    return 0


def _run_several(args, options):
    """A file for each precision, and one table of them: size, distance from MXNet, speed by runtime, accuracy by set."""
    sets, known, rows, scores = options["sets"], {}, [], []
    with _progress(sets, 1 + len(args.precision)) as bar:
        for precision in args.precision:
            path = pathlib.Path(args.out) / f"{precision}.onnx"
            done = export_onnx(
                args.prefix, args.epoch, path, precision=precision, **options, mxnet_scores=known, progress=bar.update
            )
            if not rows:
                known = {name: both["mxnet"] for name, both in done.scores.items()}
                size = sum(file.stat().st_size for file in checkpoint_files(args.prefix, args.epoch))
                rows.append(["checkpoint", f"{size / 1e6:.2f}", "", "", ""])
                scores += [["checkpoint", name, "mxnet", *verification_cells(score)] for name, score in known.items()]
            times = [f"{name} {one:.2f}, {many:.2f}" for name, (one, many) in milliseconds(path).items()]
            rows.append(
                [path.name, f"{done.bytes / 1e6:.2f}", f"{done.error:.1e}", f"{done.cosine:.5f}", "; ".join(times)]
            )
            for name, both in done.scores.items():
                runtime = list(both)[-1]
                scores.append([path.name, name, runtime, *verification_cells(both[runtime])])
    print_table(["file", "MB", "relative error", "cosine", "ms for one, each of 32"], rows)
    if scores:
        print_table(["file", "set", "run by", "accuracy", "TAR@FAR=1e-3"], scores)
    return 0


def _progress(sets, times):
    return progress(total=times * sum(len(pairs.images) for pairs in sets.values()), unit="image")
