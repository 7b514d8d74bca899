"""``vargfacenet data check``: what a set holds, and what is wrong with it."""

import argparse
import pathlib
import statistics

from vargfacenet.commands.output import progress
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.data.places import check_places
from vargfacenet.eval.pairs import check_pairs, read_pairs
from vargfacenet.formats.images import decode_image


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = actions.add_parser(
        "check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="what a .rec or .bin holds, and every bad record",
        description="Says what a training or verification set holds and lists every bad record with its number and what\n"
        "is wrong with it. Exit status 1 if there is any. With --places it also looks for the faces of some images, and\n"
        "says how far beside the lineage's places they lie (pip install 'vargfacenet[align]').",
    )
    check.add_argument("path", metavar="PATH", help="a .rec, a .bin, or a folder with train.rec")
    check.add_argument("--places", action="store_true", help="look where the faces lie in some 200 images")
    check.set_defaults(run=run)


def run(args):
    if pathlib.Path(args.path).suffix == ".bin":
        return _check_pairs(args)

    check = check_records(args.path, progress=lambda keys: progress(keys, unit="record"))
    print(f"{args.path}: {check.images} images, {check.shape[1]}x{check.shape[0]}, {check.identities} identities")
    if len(check.per_identity):
        low, middle, high = (
            check.per_identity[0],
            statistics.median(check.per_identity.tolist()),
            check.per_identity[-1],
        )
        print(
            f"images of an identity: {low} to {high}, median {middle:g}; {len(check.per_identity)} identities have any"
        )
    print(
        f"identity index record: {'yes' if check.has_index else 'no'}; checksums: {'yes' if check.has_checksums else 'no'}"
    )
    if check.grey:
        print(f"grey images, which are read as three equal channels: {check.grey}")
    if args.places:
        bad = {key for key, _ in check.bad}
        records = RecordSet(args.path, allow_cut=True)
        _print_places(records.read_face(int(key))[0] for key in _spread(records.keys) if int(key) not in bad)
        records.close()
    return _print_bad(check.bad, "record")


def _check_pairs(args):
    pairs = read_pairs(args.path)
    print(
        f"{args.path}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one person, {len(pairs.images)} images"
    )
    bad = check_pairs(pairs)
    if args.places:
        unreadable = {index for index, _ in bad}
        numbers = [index for index in _spread(range(len(pairs.images))) if index not in unreadable]
        _print_places(decode_image(pairs.images[index], "image") for index in numbers)
    return _print_bad(bad, "image")


def _spread(items):
    """Some 200 of them, evenly from the first to the last."""
    return items[:: max(1, len(items) // 200)]


def _print_places(images):
    places = check_places(images)
    print(f"faces found: {places.found} of {places.looked_at} looked at")
    if places.found:
        (right, down), beside = places.offset, max(abs(places.offset)) > _BESIDE
        print(
            f"they lie {abs(right):.1f} pixels {'right' if right > 0 else 'left'} of and {abs(down):.1f} "
            f"{'below' if down > 0 else 'above'} the lineage's places, {places.scale:.2f} times as large"
            + ("; networks expect them there: align the images anew" if beside else "")
        )


_BESIDE = 3.0  # pixels, above which the remark is made


def _print_bad(bad, what):
    for index, reason in bad:
        print(f"{what} {index}: {reason}")
    print(f"bad {what}s: {len(bad)}")
    return 1 if bad else 0
