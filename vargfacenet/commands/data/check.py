"""``vargfacenet data check``: the content of a set, and its bad records."""

import argparse
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vargfacenet.commands.output import progress
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.data.places import check_places
from vargfacenet.eval.pairs import check_pairs, read_pairs
from vargfacenet.formats.images import decode_image


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = actions.add_parser(
        "check",
        help="describe a .rec or .bin, and list its bad records",
        description="Describe a training or verification set, and list every bad record with its number and fault; the exit "
        "status is 1 if there is any. With --places, also detect the faces in some images and print how far they lie from "
        "where the lineage's alignment puts them (pip install 'vargfacenet[align]').",
        examples=(
            "vargfacenet data check faces_emore --places",
            "vargfacenet data check lfw.bin",
        ),
    )
    check.add_argument("path", metavar="PATH", help="a .rec, a .bin, or a folder with train.rec")
    check.add_argument(
        "--places", action="store_true", help="detect the faces in about 200 images, and compare their places"
    )
    check.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
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


def _check_pairs(args: argparse.Namespace) -> int:
    pairs = read_pairs(args.path)
    print(
        f"{args.path}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one identity, {len(pairs.images)} images"
    )
    bad = check_pairs(pairs)
    if args.places:
        unreadable = {index for index, _ in bad}
        numbers = [index for index in _spread(range(len(pairs.images))) if index not in unreadable]
        _print_places(decode_image(pairs.images[index], "image") for index in numbers)
    return _print_bad(bad, "image")


def _spread(items: Any) -> Any:
    """Return about 200 items, evenly from the first to the last."""
    return items[:: max(1, len(items) // 200)]


def _print_places(images: Iterable[np.ndarray]) -> None:
    places = check_places(images)
    print(f"faces found: in {places.found} of {places.looked_at} images")
    if places.found:
        (right, down), is_off = places.offset, max(abs(places.offset)) > _LARGE_OFFSET
        print(
            f"they lie {abs(right):.1f} pixels {'right' if right > 0 else 'left'} of and {abs(down):.1f} "
            f"{'below' if down > 0 else 'above'} the lineage's places, {places.scale:.2f} times as large"
            + ("; networks expect them there: align the images again" if is_off else "")
        )


_LARGE_OFFSET = 3.0  # pixels of offset above which the advice is printed


def _print_bad(bad: Sequence[tuple[int, str]], what: str) -> int:
    for index, reason in bad:
        print(f"{what} {index}: {reason}")
    print(f"bad {what}s: {len(bad)}")
    return 1 if bad else 0
