"""``vargfacenet data synth``: the built-in face set."""

import argparse
import logging
import pathlib
import time

from vargfacenet.commands.output import progress
from vargfacenet.data.synth import contact_sheet, draw_faces, draw_pairs
from vargfacenet.data.writer import write_records
from vargfacenet.eval import write_pairs
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import encode_png
from vargfacenet.options import check_range

log = logging.getLogger(__name__)

# The built-in set that demo recipes train on.
BUILTIN = {"identities": 200, "images": 20, "seed": 0}
PAIRS = 600
_VERIFIED_IDENTITIES, _VERIFIED_IMAGES = 100, 12


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    synth = actions.add_parser("synth", help="draw the built-in face set")
    synth.add_argument("folder", metavar="DIR", help="where train.rec, train.idx, property and synth.bin go")
    synth.add_argument(
        "--identities", type=int, default=BUILTIN["identities"], metavar="N", help="people (default 200)"
    )
    synth.add_argument("--images", type=int, default=BUILTIN["images"], metavar="M", help="images of each (default 20)")
    synth.add_argument("--seed", type=int, default=BUILTIN["seed"], help="another seed draws other people (default 0)")
    synth.add_argument("--contact-sheet", metavar="F.png", help="also draw an image of some of the faces")
    synth.set_defaults(run=run)


def run(args):
    check_range("--identities", args.identities, 1, 1_000_000)
    check_range("--images", args.images, 1, 10_000)
    check_range("--seed", args.seed, 0, 2**32 - 1)
    write_builtin_set(args.folder, identities=args.identities, images=args.images, seed=args.seed)
    if args.contact_sheet:
        with atomic_path(args.contact_sheet) as temporary:
            temporary.write_bytes(encode_png(contact_sheet(seed=args.seed)))
        print(f"{args.contact_sheet}: one identity a row")
    return 0


def write_builtin_set(folder, *, identities, images, seed):
    """Draws ``train.rec`` and, of other identities, ``synth.bin`` into a folder."""
    begin, folder = time.time(), pathlib.Path(folder)
    log.info("drawing %d identities x %d images into %s", identities, images, folder)
    faces = draw_faces(num_identities=identities, images_per_identity=images, seed=seed)
    write_records(folder, progress(faces, total=identities * images, unit="image"))
    images, is_same = draw_pairs(
        num_identities=_VERIFIED_IDENTITIES,
        images_per_identity=_VERIFIED_IMAGES,
        num_pairs=PAIRS,
        seed=seed,
        first_identity=identities,
    )
    write_pairs(folder / "synth.bin", images, is_same)
    log.info("%s and %d pairs of unseen identities, in %.0f s", folder / "train.rec", PAIRS, time.time() - begin)
