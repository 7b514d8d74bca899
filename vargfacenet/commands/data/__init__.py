"""``vargfacenet data``: making and checking training and verification sets. Each action is a module."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.data import align, check, lfw, pack, pairs, synth

ACTIONS = (synth, align, pack, pairs, lfw, check)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Makes and checks training sets (train.rec, train.idx, property) and verification sets (.bin).",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action in ACTIONS:
        action.add_parser(actions)
