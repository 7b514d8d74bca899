"""Options and inputs of commands that embed pictures with a checkpoint or an ONNX file."""

import pathlib

from vargfacenet.options import check_range


def add_model_options(parser, *, pictures=True):
    """Adds ``MODEL --epoch --runtime``, and ``--align`` and ``--crop`` for `pictures`."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, or PREFIX as in PREFIX-symbol.json")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="of a checkpoint (default 0)")
    parser.add_argument(
        "--runtime", default="onnxruntime", help="what runs an ONNX file: onnxruntime (default) or openvino"
    )
    if pictures:
        others = parser.add_mutually_exclusive_group()
        others.add_argument(
            "--align",
            action="store_true",
            help="find the face in pictures that are not 112x112, and align it, instead of refusing them",
        )
        others.add_argument(
            "--crop",
            action="store_true",
            help="take the middle square of pictures that are not 112x112, scaled, instead of refusing them; without "
            "alignment networks do worse",
        )


def face_options(args):
    """The options of `vargfacenet.deploy.face_of` that these name (dict); SetupError where a detector is missing."""
    return {"crop": args.crop, "detector": face_detector() if args.align else None}


def face_detector():
    """What finds faces in photographs; SetupError where its package is missing."""
    from vargfacenet.data.detector import FaceDetector

    return FaceDetector()


def model_of(args, **options):
    """The FaceModel that these options name."""
    from vargfacenet.deploy import load_model

    check_range("--epoch", args.epoch, 0, 9999)
    return load_model(args.model, epoch=args.epoch, runtime=args.runtime, **options)


def picture_files(given):
    """Files, and those with a picture's ending in folders and below, in order; DataError where there is none."""
    from vargfacenet.errors import DataError
    from vargfacenet.pictures import SUFFIXES

    found = []
    for path in map(pathlib.Path, given):
        inside = (
            sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise DataError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")
        found += inside
    return found
