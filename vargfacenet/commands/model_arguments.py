"""Arguments of commands that embed images with a network: a checkpoint, an ONNX file or a bundled network."""

import argparse
import contextlib
import logging
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import mxnet as mx

from vargfacenet.commands.arguments import Arguments, keep_old_spelling
from vargfacenet.data.detector import FaceDetector
from vargfacenet.deploy import FaceModel, load_model
from vargfacenet.deploy.models import Model, is_onnx, open_model
from vargfacenet.deploy.signature import Scaling
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.cache import EmbeddingCache
from vargfacenet.formats.checkpoint import split_epoch
from vargfacenet.formats.files import files_below, write_fault
from vargfacenet.formats.images import SUFFIXES
from vargfacenet.models import default_model, find_model
from vargfacenet.options import check_range

log = logging.getLogger(__name__)
_NAMED = 5  # of many files that do not exist

MODEL_HELP = (
    "a checkpoint, as PREFIX or PREFIX,EPOCH (epoch 0 without one), an ONNX file, or a name of 'vargfacenet models'"
)
CHECKPOINT_HELP = "a checkpoint, as PREFIX or PREFIX,EPOCH (epoch 0 without one), or a name of 'vargfacenet models'"


class ModelName(NamedTuple):
    """The prefix and epoch of a checkpoint; or an ONNX file, whose epoch means nothing."""

    path: str
    epoch: int


def add_model_argument(parser: Arguments, name: str = "model", **options: Any) -> None:
    """Add the argument MODEL."""
    parser.add_argument(name, metavar="MODEL", help=options.pop("help", MODEL_HELP), **options)
    keep_old_spelling(parser, "--epoch", new="MODEL,EPOCH", dest="epoch", type=int, default=0)


def add_optional_model_argument(parser: Arguments) -> None:
    """Add the argument MODEL of a command that takes the bundled network without it."""
    add_model_argument(parser, nargs="?", default=default_model().name, help=f"{MODEL_HELP} (default: %(default)s)")


def add_model_and_images(parser: Arguments) -> None:
    """Add the arguments MODEL and IMAGES; where the first is an image, `take_images` takes the bundled network."""
    add_model_argument(
        parser,
        help=f"{MODEL_HELP}; where images come first, it is {default_model().name}, which comes with the package",
    )
    parser.add_argument("images", metavar="IMAGES", nargs="*", help="images, or folders of them")


def take_images(args: argparse.Namespace) -> list[pathlib.Path]:
    """Return the files of IMAGES; MODEL becomes the bundled network where an image or a folder was given in its place.

    SettingError where no image is given, or a model among the images.
    """
    first = pathlib.Path(args.model)
    if not is_model(args.model) and (first.is_dir() or first.suffix.lower() in SUFFIXES):
        swapped = next((one for one in args.images if not pathlib.Path(one).exists() and is_model(one)), None)
        if swapped is not None:
            raise SettingError(
                f"{args.model} is not a model and {swapped} is one: the arguments look swapped; the model comes first"
            )
        args.images, args.model = [args.model, *args.images], default_model().name
        log.info("model: %s (%s)", args.model, default_model().summary)
    if not args.images:
        raise SettingError("no images: give images, or folders of them, after the model")
    return image_files(args.images)


def is_model(text: str) -> bool:
    """Return True for the name of an ONNX file or a bundled network, or the prefix of a checkpoint that exists."""
    prefix, _ = split_epoch(text)
    return is_onnx(text) or find_model(prefix) is not None or pathlib.Path(f"{prefix}-symbol.json").exists()


def add_runtime_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--runtime``, ``--input-mean``, ``--input-std`` and ``--bgr``, in a group of their own."""
    group = parser.add_argument_group(
        "network", "By default images are scaled as an ONNX file states it, or as its graph is recognised to need it."
    )
    group.add_argument(
        "--runtime", default="onnxruntime", metavar="NAME", help="for ONNX files: onnxruntime (default) or openvino"
    )
    add_scaling_arguments(group)


def add_scaling_arguments(parser: Arguments, *, of: str = "the network") -> None:
    """Add ``--input-mean``, ``--input-std`` and ``--bgr``, of the network that the help calls `of`."""
    parser.add_argument("--input-mean", type=float, metavar="M", help=f"{of}'s: subtracted from each value of 0..255")
    parser.add_argument("--input-std", type=float, metavar="S", help=f"{of}'s: the difference is divided by it")
    parser.add_argument("--bgr", action="store_true", help=f"{of} takes channels in the order BGR")


def add_alignment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--align`` and ``--crop``."""
    group = parser.add_argument_group("images that are not 112x112", "They are refused by default.")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--align", action="store_true", help="find the face and align it")
    either.add_argument(
        "--crop",
        action="store_true",
        help="take the middle square, scaled; networks do worse on faces that are not aligned",
    )


def add_cache_arguments(parser: Arguments) -> None:
    """Add ``--cache`` and ``--no-cache``."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--cache", metavar="DIR", help="folder that keeps embeddings (default: the user's cache)")
    either.add_argument("--no-cache", action="store_true", help="keep no embeddings")


def parse_model(text: object, epoch: int = 0) -> ModelName:
    """Return the model named by ``PREFIX``, ``PREFIX,EPOCH``, one of a checkpoint's two files, or an ONNX file.

    `epoch` is the one of a name without an epoch. SettingError where an image or a data set is given as the model.
    """
    path = pathlib.PurePath(str(text))
    if path.suffix.lower() in (*SUFFIXES, ".bin", ".rec"):
        kind = "an image" if path.suffix.lower() in SUFFIXES else "a data set"
        raise SettingError(
            f"{text} is {kind} and not a model: the arguments look swapped; the model comes first, as PREFIX, PREFIX,EPOCH "
            "or an ONNX file"
        )
    check_range("--epoch", epoch, 0, 9999)
    return ModelName(*split_epoch(str(text), epoch))


def parse_checkpoint(text: object, epoch: int = 0) -> ModelName:
    """Return the checkpoint that `parse_model` finds; SettingError for an ONNX file."""
    name = parse_model(text, epoch)
    if is_onnx(name.path):
        raise SettingError(f"{text} is an ONNX file: expected a checkpoint, PREFIX or PREFIX,EPOCH")
    return name


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the shortest ends, of at least two parts, by which paths of models differ: names as given to ends."""
    parts = {name: pathlib.PurePath(name).parts for name in names}
    for count in range(2, 2 + max(map(len, parts.values()))):
        short = {name: "/".join(part.strip("/") for part in found[-count:]) for name, found in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in names}


def open_named(
    args: argparse.Namespace, text: str, *, batch_size: int = 32, device: Optional[mx.Context] = None
) -> Model:
    """Open the model `text`, with the options of `add_model_argument` and `add_runtime_arguments`."""
    model, epoch = parse_model(text, args.epoch)
    return open_model(
        model, epoch=epoch, runtime=args.runtime, device=device, batch_size=batch_size, scaling=given_scaling(args)
    )


def load_face_model(
    args: argparse.Namespace,
    *,
    threshold: Optional[float] = None,
    batch_size: int = 32,
    device: Optional[mx.Context] = None,
) -> FaceModel:
    """Load the model of the argument MODEL, with the options of `add_runtime_arguments`."""
    model, epoch = parse_model(args.model, args.epoch)
    return load_model(
        model,
        epoch=epoch,
        runtime=args.runtime,
        device=device,
        threshold=threshold,
        batch_size=batch_size,
        scaling=given_scaling(args),
    )


def given_scaling(args: argparse.Namespace) -> Scaling:
    """Return the scaling of images that ``--input-mean``, ``--input-std`` and ``--bgr`` state."""
    if args.input_mean is not None:
        check_range("--input-mean", args.input_mean, -1000, 1000)
    if args.input_std is not None:
        check_range("--input-std", args.input_std, 1e-6, 1e6)
    return Scaling(args.input_mean, args.input_std, args.bgr)


def face_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `vargfacenet.deploy.face_of`; SetupError where the detector's package is missing."""
    return {"crop": args.crop, "detector": face_detector() if args.align else None}


def face_detector() -> FaceDetector:
    """Return a detector of faces in photographs; SetupError where its package is missing."""
    return FaceDetector()


@contextlib.contextmanager
def open_cache(args: argparse.Namespace) -> Iterator[EmbeddingCache]:
    """Give the cache of embeddings that the options name; a temporary one with ``--no-cache``.

    Where the user's own cache cannot be written, a warning says so and the cache is temporary. A folder given by
    ``--cache`` must be writable.
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


def image_files(given: Iterable[str]) -> list[pathlib.Path]:
    """Return files, and the images in folders and their sub-folders, in order.

    DataError for files that do not exist, and for a folder without images.
    """
    paths = list(map(pathlib.Path, given))
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise DataError(f"cannot read {', '.join(missing[:_NAMED])}{more}: no such file or folder")
    found = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
        if not inside:
            raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        found += inside
    return found
