"""Options and inputs of commands that embed images with a checkpoint or an ONNX file."""

import contextlib
import logging
import pathlib
import re
import tempfile

from vargfacenet.data.detector import FaceDetector
from vargfacenet.deploy import load_model
from vargfacenet.deploy.models import open_model
from vargfacenet.deploy.signature import Scaling
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.cache import EmbeddingCache
from vargfacenet.formats.files import files_below, write_fault
from vargfacenet.formats.images import SUFFIXES
from vargfacenet.options import check_range

log = logging.getLogger(__name__)


def add_model_options(parser, *, images=True):
    """Adds ``MODEL --epoch --runtime``, and ``--align`` and ``--crop`` for `images`."""
    parser.add_argument(
        "model", metavar="MODEL", help="an ONNX file, or PREFIX or PREFIX,EPOCH as in PREFIX-symbol.json"
    )
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="of a checkpoint (default 0)")
    parser.add_argument(
        "--runtime", default="onnxruntime", help="what runs an ONNX file: onnxruntime (default) or openvino"
    )
    add_scaling_options(parser)
    if images:
        others = parser.add_mutually_exclusive_group()
        others.add_argument(
            "--align",
            action="store_true",
            help="find the face in images that are not 112x112, and align it, instead of refusing them",
        )
        others.add_argument(
            "--crop",
            action="store_true",
            help="take the middle square of images that are not 112x112, scaled, instead of refusing them; without "
            "alignment networks do worse",
        )


def add_scaling_options(parser):
    """Adds ``--input-mean --input-std --bgr``."""
    group = parser.add_argument_group("images as the network expects them (default: as the file states, or recognised)")
    group.add_argument("--input-mean", type=float, metavar="M", help="what is subtracted from each value of 0..255")
    group.add_argument("--input-std", type=float, metavar="S", help="what the difference is divided by")
    group.add_argument("--bgr", action="store_true", help="the network takes channels in the order BGR")


def scaling_given(args):
    """The `vargfacenet.deploy.signature.Scaling` that these options name."""
    if args.input_mean is not None:
        check_range("--input-mean", args.input_mean, -1000, 1000)
    if args.input_std is not None:
        check_range("--input-std", args.input_std, 1e-6, 1e6)
    return Scaling(args.input_mean, args.input_std, args.bgr)


def face_options(args):
    """The options of `vargfacenet.deploy.face_of` that these name (dict); SetupError where a detector is missing."""
    return {"crop": args.crop, "detector": face_detector() if args.align else None}


def face_detector():
    """What finds faces in photographs; SetupError where its package is missing."""
    return FaceDetector()


def model_of(args, **options):
    """The FaceModel that these options name."""
    check_range("--epoch", args.epoch, 0, 9999)
    model, epoch = split_name(args.model, args.epoch)
    return load_model(model, epoch=epoch, runtime=args.runtime, scaling=scaling_given(args), **options)


def split_name(text, epoch):
    """The model and its epoch (int, by default `epoch`) of ``PREFIX,EPOCH``, as the lineage writes it, or a model alone.

    One of the two files of a checkpoint stands for it. SettingError where an image or a data set stands in the model's place.
    """
    path = pathlib.PurePath(str(text))
    if path.suffix.lower() in (*SUFFIXES, ".bin", ".rec"):
        kind = "an image" if path.suffix.lower() in SUFFIXES else "a data set"
        raise SettingError(
            f"{text} is {kind} and stands in the place of the model: the arguments look swapped; the model comes first, as "
            "PREFIX, PREFIX,EPOCH or an ONNX file"
        )
    file = re.fullmatch(r"(?P<prefix>.+)-(?:symbol\.json|(?P<epoch>\d{4})\.params)", str(text))
    if file:
        return file["prefix"], epoch if file["epoch"] is None else int(file["epoch"])
    prefix, comma, number = str(text).rpartition(",")
    return (prefix, int(number)) if comma and prefix and number.isdecimal() and len(number) <= 4 else (str(text), epoch)


def short_names(names):
    """Models by what tells them apart: dict of name as given to its last parts, at least two of them."""
    parts = {name: pathlib.PurePath(name).parts for name in names}
    for count in range(2, 2 + max(map(len, parts.values()))):
        short = {name: "/".join(part.strip("/") for part in found[-count:]) for name, found in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in names}


def open_named(args, text, *, batch_size=32, device=None):
    """The `vargfacenet.deploy.models.Model` of a name as `split_name` reads it, with ``--epoch`` and ``--runtime``."""
    check_range("--epoch", args.epoch, 0, 9999)
    model, epoch = split_name(text, args.epoch)
    options = {"batch_size": batch_size, "device": device, "scaling": scaling_given(args)}
    return open_model(model, epoch=epoch, runtime=args.runtime, **options)


def add_cache_options(parser):
    """Adds ``--cache`` and ``--no-cache``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--cache", metavar="DIR", help="where embeddings are kept (default: the user's cache)")
    group.add_argument("--no-cache", action="store_true", help="keep no embeddings")


@contextlib.contextmanager
def cache_of(args):
    """The EmbeddingCache that these options name; without one, a folder that goes afterwards.

    Where the user's own cache cannot be written, a warning says so and there is none. A folder that was named must do.
    """
    if not args.no_cache:
        cache = EmbeddingCache(args.cache)
        fault = None if args.cache else write_fault(cache.folder)
        if fault is None:
            yield cache
            return
        log.warning(
            "cannot write the cache %s: %s; embeddings are not kept. Set XDG_CACHE_HOME to a folder that you may write",
            cache.folder,
            fault,
        )
    with tempfile.TemporaryDirectory(prefix="vargfacenet-") as folder:
        yield EmbeddingCache(folder)


def image_files(given):
    """Files, and those with an image's ending in folders and below, in order; DataError where there is none."""
    found = []
    for path in map(pathlib.Path, given):
        inside = [path]
        if path.is_dir():
            inside = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
        if not inside:
            raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        found += inside
    return found
