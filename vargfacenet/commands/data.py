"""``vargfacenet data``: making and checking training and verification sets."""

import argparse
import logging
import pathlib
import statistics
import time

from vargfacenet.commands.output import progress

log = logging.getLogger(__name__)

# The built-in set that demo recipes train on.
BUILTIN = {"identities": 200, "images": 20, "seed": 0}
PAIRS = 600
_VERIFIED_IDENTITIES, _VERIFIED_IMAGES = 100, 12


def add_parser(commands, common):
    parser = commands.add_parser(
        "data",
        parents=[common],
        help="make and check training and verification sets",
        description="Makes and checks training sets (train.rec, train.idx, property) and verification sets (.bin).",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    synth = actions.add_parser("synth", parents=[common], help="draw the built-in face set")
    synth.add_argument("folder", metavar="DIR", help="where train.rec, train.idx, property and synth.bin go")
    synth.add_argument(
        "--identities", type=int, default=BUILTIN["identities"], metavar="N", help="people (default 200)"
    )
    synth.add_argument(
        "--images", type=int, default=BUILTIN["images"], metavar="M", help="pictures of each (default 20)"
    )
    synth.add_argument("--seed", type=int, default=BUILTIN["seed"], help="another seed draws other people (default 0)")
    synth.add_argument("--contact-sheet", metavar="F.png", help="also draw a picture of some of the faces")
    synth.set_defaults(run=run_synth)

    pack = actions.add_parser("pack", parents=[common], help="a folder for each identity -> train.rec, .idx, property")
    pack.add_argument(
        "images", metavar="IMAGES", help="folder with one folder of aligned 112x112 pictures per identity"
    )
    pack.add_argument("folder", metavar="DIR", help="where the set goes")
    pack.add_argument("--resize", action="store_true", help="scale pictures of another size instead of refusing them")
    pack.set_defaults(run=run_pack)

    pairs = actions.add_parser("pairs", parents=[common], help="a pairs file in LFW's form -> .bin")
    pairs.add_argument("images", metavar="IMAGES", help="folder with NAME/NAME_0001.jpg and so on")
    pairs.add_argument("pairs", metavar="PAIRS.txt", help="lines 'NAME i j' and 'NAME1 i NAME2 j'")
    pairs.add_argument("out", metavar="OUT.bin", help="the verification set to write")
    pairs.add_argument("--resize", action="store_true", help="scale pictures of another size instead of refusing them")
    pairs.set_defaults(run=run_pairs)

    check = actions.add_parser(
        "check",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="what a .rec or .bin holds, and every bad record",
        description="Says what a training or verification set holds and lists every bad record with its number and what\n"
        "is wrong with it. Exit status 1 if there is any.",
    )
    check.add_argument("path", metavar="PATH", help="a .rec, a .bin, or a folder with train.rec")
    check.set_defaults(run=run_check)


def run_synth(args):
    from vargfacenet.data.synth import contact_sheet
    from vargfacenet.files import atomic_path
    from vargfacenet.options import check_range
    from vargfacenet.pictures import encode_png

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
    from vargfacenet.data.synth import draw_faces, draw_pairs
    from vargfacenet.data.writer import write_records
    from vargfacenet.eval import write_pairs

    begin, folder = time.time(), pathlib.Path(folder)
    log.info("drawing %d identities x %d pictures into %s", identities, images, folder)
    faces = draw_faces(num_identities=identities, images_per_identity=images, seed=seed)
    write_records(folder, progress(faces, total=identities * images, unit="picture"))
    pictures, is_same = draw_pairs(
        num_identities=_VERIFIED_IDENTITIES,
        images_per_identity=_VERIFIED_IMAGES,
        num_pairs=PAIRS,
        seed=seed,
        first_identity=identities,
    )
    write_pairs(folder / "synth.bin", pictures, is_same)
    log.info("%s and %d pairs of unseen identities, in %.0f s", folder / "train.rec", PAIRS, time.time() - begin)


def run_pack(args):
    from vargfacenet.data.writer import faces_of_folder, write_records

    faces = faces_of_folder(
        args.images, resize=args.resize, progress=lambda folders: progress(folders, unit="identity")
    )
    pictures, identities = write_records(args.folder, faces)
    print(f"{args.folder}/train.rec: {pictures} pictures of {identities} identities")
    return 0


def run_pairs(args):
    from vargfacenet.eval.pairs import pairs_from_folder, write_pairs

    pairs = pairs_from_folder(args.images, args.pairs, resize=args.resize)
    write_pairs(args.out, *pairs)
    print(f"{args.out}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one person")
    return 0


def run_check(args):
    if pathlib.Path(args.path).suffix == ".bin":
        return _check_pairs(args.path)
    from vargfacenet.data.check import check_records

    check = check_records(args.path, progress=lambda keys: progress(keys, unit="record"))
    print(f"{args.path}: {check.pictures} pictures, {check.shape[1]}x{check.shape[0]}, {check.identities} identities")
    if len(check.per_identity):
        low, middle, high = (
            check.per_identity[0],
            statistics.median(check.per_identity.tolist()),
            check.per_identity[-1],
        )
        print(
            f"pictures of an identity: {low} to {high}, median {middle:g}; {len(check.per_identity)} identities have any"
        )
    print(
        f"identity index record: {'yes' if check.has_index else 'no'}; checksums: {'yes' if check.is_sealed else 'no'}"
    )
    if check.grey:
        print(f"grey pictures, which are read as three equal channels: {check.grey}")
    return _print_bad(check.bad, "record")


def _check_pairs(path):
    from vargfacenet.eval.pairs import check_pairs, read_pairs

    pairs = read_pairs(path)
    print(
        f"{path}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one person, {len(pairs.pictures)} pictures"
    )
    return _print_bad(check_pairs(pairs), "picture")


def _print_bad(bad, what):
    for index, reason in bad:
        print(f"{what} {index}: {reason}")
    print(f"bad {what}s: {len(bad)}")
    return 1 if bad else 0
