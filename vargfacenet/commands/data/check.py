"""``vargfacenet data check``: what a set holds, and what is wrong with it."""

import argparse
import pathlib
import statistics

from vargfacenet.commands.output import progress


def add_parser(actions, common):
    check = actions.add_parser(
        "check",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="what a .rec or .bin holds, and every bad record",
        description="Says what a training or verification set holds and lists every bad record with its number and what\n"
        "is wrong with it. Exit status 1 if there is any.",
    )
    check.add_argument("path", metavar="PATH", help="a .rec, a .bin, or a folder with train.rec")
    check.set_defaults(run=run)


def run(args):
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
