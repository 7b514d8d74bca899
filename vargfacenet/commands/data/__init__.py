"""``vargfacenet data``: make and check training and verification sets. Each action is a module."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.data import align, check, lfw, pack, pairs, synth

ACTIONS = (synth, align, pack, pairs, lfw, check)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Make and check training sets (train.rec, train.idx, property) and verification sets (.bin).",
        examples=(
            "vargfacenet data align photographs aligned",
            "vargfacenet data pack aligned my_faces",
            "vargfacenet data check my_faces",
        ),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action in ACTIONS:
        action.add_parser(actions)
