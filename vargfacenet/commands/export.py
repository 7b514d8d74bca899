"""``vargfacenet export``: a checkpoint as an ONNX file."""

import argparse
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vargfacenet.commands.arguments import keep_old_spelling
from vargfacenet.commands.model_arguments import (
    CHECKPOINT_HELP,
    ModelName,
    add_model_argument,
    parse_checkpoint,
)
from vargfacenet.commands.output import (
    VERIFICATION_HEADERS,
    check_writable,
    print_table,
    progress,
    verification_cells,
)
from vargfacenet.deploy.export import Scoring, check_request, export_onnx
from vargfacenet.deploy.graph import ImageInput
from vargfacenet.deploy.measure import milliseconds
from vargfacenet.deploy.samples import LEAST, sample_images
from vargfacenet.deploy.targets import Target
from vargfacenet.errors import SettingError
from vargfacenet.eval import read_sets
from vargfacenet.eval.pairs import Pairs
from vargfacenet.formats.checkpoint import checkpoint_files
from vargfacenet.options import check_range

_OTHER_FORMATS = (
    *(".bin", ".engine", ".h5", ".keras", ".mlmodel", ".mlpackage", ".mnn", ".param", ".params", ".pb", ".pt", ".pth"),
    *(".safetensors", ".tflite", ".trt", ".xml"),
)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Write a checkpoint of this project or of the InsightFace lineage as an ONNX file. Its input is images, "
        "RGB 0..255, by default float32 NCHW and any number at a time; its output is embeddings. The file is run in "
        "onnxruntime and must embed as MXNet does, or no file is left.",
        examples=(
            "vargfacenet export runs/mine/best student.onnx --target onnxruntime --verify lfw.bin",
            "vargfacenet export runs/mine/best student.onnx --target openvino --precision int8 --calibrate faces_emore",
            "vargfacenet export runs/mine/best phone.onnx --layout nhwc --input-type uint8 --batch 1",
            "vargfacenet export vargfacenet-x050 files --precision float32 fp16 bf16 --verify lfw.bin",
        ),
    )
    add_model_argument(parser, help=CHECKPOINT_HELP)
    parser.add_argument(
        "out", metavar="OUT.onnx", help="the file to write; with several precisions, a folder for their files"
    )
    form = parser.add_argument_group("form")
    form.add_argument(
        "--target",
        default="plain",
        help="runtime whose preferred form the graph takes: plain (default, smallest), onnxruntime, openvino, insightface",
    )
    form.add_argument(
        "--precision",
        nargs="+",
        default=["float32"],
        metavar="P",
        help="type of the stored weights: float32 (default), fp16 or bf16 (half the size), int8 (a quarter); several make "
        "several files, compared in a table",
    )
    form.add_argument(
        "--layout",
        default="NCHW",
        type=str.upper,
        metavar="L",
        help="order of the input's axes: nchw (default) or nhwc",
    )
    form.add_argument(
        "--input-type",
        default="float32",
        metavar="TYPE",
        help="type of the input's numbers: float32 (default) or uint8",
    )
    form.add_argument("--batch", type=int, metavar="N", help="number of images at a time (default: any)")
    form.add_argument("--calibrate", metavar="PATH", help="faces for int8: a folder of aligned images or a .rec file")
    form.add_argument(
        "--calibration-images", type=int, default=96, metavar="N", help="number of those faces (default: %(default)s)"
    )
    keep_old_spelling(form, "--calibration-pictures", new="--calibration-images", dest="calibration_images", type=int)
    parser.add_argument_group("checks").add_argument(
        "--verify", nargs="+", metavar="SET.bin", help="verification sets on which to score both MXNet and the file"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    model = parse_checkpoint(args.model, args.epoch)
    check_range("--calibration-images", args.calibration_images, LEAST, 10000)
    suffix = pathlib.PurePath(args.out).suffix.lower()
    if suffix in _OTHER_FORMATS:
        name = pathlib.PurePath(args.out).with_suffix(".onnx")
        raise SettingError(
            f"{args.out}: {suffix} is not written: name it {name}; the output is ONNX, which converters of other projects turn "
            "into other formats"
        )
    sets = read_sets(args.verify) if args.verify else {}
    faces = sample_images(args.calibrate, args.calibration_images) if args.calibrate else None
    target = Target(args.target, ImageInput(args.layout, args.input_type, args.batch))
    forms = [{"target": target, "precision": precision, "calibration": faces} for precision in args.precision]
    for form in forms:
        check_request(**form)
    check_writable(args.out if len(forms) == 1 else f"{args.out}/{forms[0]['precision']}.onnx")
    if len(forms) == 1:
        _write_one(model, args.out, forms[0], sets)
    else:
        _write_several(model, pathlib.Path(args.out), forms, sets)
    return 0


_Form = Mapping[str, Any]  # target, precision and calibration of `export_onnx`


def _write_one(model: ModelName, out: str, form: _Form, sets: Mapping[str, Pairs]) -> None:
    with _progress(sets, 2) as bar:
        done = export_onnx(*model, out, **form, scoring=Scoring(sets, progress=bar.update))
    print(f"{out}: {done.bytes / 1e6:.2f} MB")
    print(f"against MXNet: relative error {done.error:.1e}, mean cosine {done.cosine:.5f}")
    if done.float_layers:
        print(f"kept in float32: {', '.join(done.float_layers)}")
    for runtime, (one, many) in milliseconds(out).items():
        print(f"{runtime}: {one:.2f} ms for an image, {many:.2f} ms each of 32")
    rows = [
        [name, runtime, *verification_cells(score)]
        for name, both in done.scores.items()
        for runtime, score in both.items()
    ]
    if rows:
        print_table(["set", "run by", *VERIFICATION_HEADERS], rows)
    if done.threshold is not None:
        print(f"one person above a cosine of {done.threshold:.4f}, at a false accept rate of {done.far:g}")
    elif sets:
        print("no threshold: the set has too few pairs of different people for a false accept rate of 0.1")


def _write_several(model: ModelName, out: pathlib.Path, forms: Sequence[_Form], sets: Mapping[str, Pairs]) -> None:
    """Write a file for each form, and print their sizes, differences from MXNet, speeds and accuracies."""
    known: dict[str, Mapping[str, Any]] = {}
    rows: list[list[str]] = []
    scores: list[list[str]] = []
    with _progress(sets, 1 + len(forms)) as bar:
        for form in forms:
            path = out / f"{form['precision']}.onnx"
            done = export_onnx(*model, path, **form, scoring=Scoring(sets, known, bar.update))
            if not rows:
                known = {name: both["mxnet"] for name, both in done.scores.items()}
                size = sum(file.stat().st_size for file in checkpoint_files(*model))
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
        print_table(["file", "set", "run by", *VERIFICATION_HEADERS], scores)


def _progress(sets: Mapping[str, Pairs], times: int) -> Any:
    return progress(total=times * sum(len(pairs.images) for pairs in sets.values()), unit="image")
