"""``vargfacenet compare``: the cosine of two faces, and a verdict."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.arguments import Arguments
from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_optional_model_argument,
    add_runtime_arguments,
    face_options,
    is_model,
    load_face_model,
    parse_model,
)
from vargfacenet.deploy.faces import Comparison
from vargfacenet.errors import SettingError
from vargfacenet.formats.images import read_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Compare two aligned faces of 112x112. The verdict takes the threshold that 'vargfacenet export "
        "--verify' stored in an ONNX file, with the false accept rate it was measured at, or the one given.",
        examples=(
            "vargfacenet compare a.jpg b.jpg --align",
            "vargfacenet compare runs/mine/best,0 a.png b.png --threshold 0.38",
        ),
        intermixed=True,
    )
    add_optional_model_argument(parser)
    parser.add_argument("first", metavar="A", help="an image")
    parser.add_argument("second", metavar="B", help="another image")
    add_threshold_argument(parser)
    add_alignment_arguments(parser)
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def add_threshold_argument(parser: Arguments) -> None:
    """Add ``--threshold``."""
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="COSINE",
        help="cosine above which two faces are one identity, -1 .. 1 (default: the model's)",
    )


def check_threshold(args: argparse.Namespace) -> None:
    """Raise SettingError where ``--threshold`` is out of range."""
    if args.threshold is not None:
        check_range("--threshold", args.threshold, -1, 1)


def run(args: argparse.Namespace) -> int:
    check_threshold(args)
    parse_model(args.model, args.epoch)  # refuses an image in its place before the images are read
    for path in (args.first, args.second):
        if is_model(path):
            raise SettingError(f"{path} is a model: expected the two images A and B after it, or without it")
    options = face_options(args)
    images = [read_image(path) for path in (args.first, args.second)]
    result = load_face_model(args, threshold=args.threshold, batch_size=2).compare(*images, **options)
    print(f"cosine   {result.cosine:.4f}")
    print(f"verdict  {verdict(result)}")
    return 0


def verdict(result: Comparison) -> str:
    """Return the verdict of a comparison in words."""
    if result.same is None:
        return "none: the model has no threshold; give --threshold, or export it with --verify SET.bin"
    far = "" if result.far is None else f", at a false accept rate of {result.far:g}"
    return f"{'one person' if result.same else 'different people'} (threshold {result.threshold:.4f}{far})"
