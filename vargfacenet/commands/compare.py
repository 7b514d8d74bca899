"""``vargfacenet compare``: whether two images show one person."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.model_options import add_model_options, face_options, model_of
from vargfacenet.formats.images import read_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Compares two aligned faces of 112x112. The verdict takes the threshold that 'vargfacenet export "
        "--verify' left in an ONNX file, with the false accept rate it was measured at, or the one given.",
    )
    add_model_options(parser)
    parser.add_argument("first", metavar="A", help="an image")
    parser.add_argument("second", metavar="B", help="another")
    parser.add_argument(
        "--threshold", type=float, metavar="COSINE", help="above which two faces are one person, -1 .. 1"
    )
    parser.set_defaults(run=run)


def run(args):
    if args.threshold is not None:
        check_range("--threshold", args.threshold, -1, 1)
    options = face_options(args)
    images = [read_image(path) for path in (args.first, args.second)]
    result = model_of(args, threshold=args.threshold, batch_size=2).compare(*images, **options)
    print(f"cosine   {result.cosine:.4f}")
    print(f"verdict  {verdict(result)}")
    return 0


def verdict(result):
    """A Comparison in words."""
    if result.same is None:
        return "none: the model has no threshold; give --threshold, or export it with --verify SET.bin"
    far = "" if result.far is None else f", at a false accept rate of {result.far:g}"
    return f"{'one person' if result.same else 'different people'} (threshold {result.threshold:.4f}{far})"
