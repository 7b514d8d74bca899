"""``vargfacenet data synth``: the built-in face set."""

import argparse
import logging
import pathlib
import time
from typing import Union

from vargfacenet.commands.arguments import keep_old_spelling
from vargfacenet.commands.output import progress
from vargfacenet.data.synth import contact_sheet, draw_faces, draw_pairs
from vargfacenet.data.writer import write_records
from vargfacenet.eval import write_pairs
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import encode_png
from vargfacenet.options import check_range

log = logging.getLogger(__name__)

# The built-in set, which demo recipes train on.
BUILTIN = {"identities": 200, "images": 20, "seed": 0}
PAIRS = 600
_VERIFIED_IDENTITIES, _VERIFIED_IMAGES = 100, 12


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    synth = actions.add_parser(
        "synth",
        help="draw the built-in face set",
        description="Draw a training set of faces, and a verification set of other identities. They show that everything "
        "works, and nothing about real faces.",
        examples=(
            "vargfacenet data synth datasets/synth --contact-sheet faces.png",
            "vargfacenet data synth small --identities 20 --images-per-identity 10",
        ),
    )
    synth.add_argument(
        "folder", metavar="DIR", help="folder that receives train.rec, train.idx, property and synth.bin"
    )
    synth.add_argument(
        "--identities", type=int, default=BUILTIN["identities"], metavar="N", help="identities (default 200)"
    )
    synth.add_argument(
        "--images-per-identity",
        type=int,
        default=BUILTIN["images"],
        metavar="N",
        help="images of each identity (default 20)",
    )
    keep_old_spelling(synth, "--images", new="--images-per-identity", dest="images_per_identity", type=int)
    synth.add_argument(
        "--seed", type=int, default=BUILTIN["seed"], metavar="N", help="another seed draws other faces (default 0)"
    )
    synth.add_argument("--contact-sheet", metavar="FILE.png", help="also draw some of the faces as one image")
    synth.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    check_range("--identities", args.identities, 1, 1_000_000)
    check_range("--images-per-identity", args.images_per_identity, 1, 10_000)
    check_range("--seed", args.seed, 0, 2**32 - 1)
    write_builtin_set(args.folder, identities=args.identities, images=args.images_per_identity, seed=args.seed)
    if args.contact_sheet:
        with atomic_path(args.contact_sheet) as temporary:
            temporary.write_bytes(encode_png(contact_sheet(seed=args.seed)))
        print(f"{args.contact_sheet}: one identity in each row")
    return 0


def write_builtin_set(folder: Union[str, pathlib.Path], *, identities: int, images: int, seed: int) -> None:
    """Draw ``train.rec`` and, of other identities, ``synth.bin`` into a folder; `images` is the number per identity."""
    begin, folder = time.time(), pathlib.Path(folder)
    log.info("drawing %d identities x %d images into %s", identities, images, folder)
    faces = draw_faces(num_identities=identities, images_per_identity=images, seed=seed)
    write_records(folder, progress(faces, total=identities * images, unit="image"))
    paired, is_same = draw_pairs(
        num_identities=_VERIFIED_IDENTITIES,
        images_per_identity=_VERIFIED_IMAGES,
        num_pairs=PAIRS,
        seed=seed,
        first_identity=identities,
    )
    write_pairs(folder / "synth.bin", paired, is_same)
    log.info("%s and %d pairs of unseen identities, in %.0f s", folder / "train.rec", PAIRS, time.time() - begin)
