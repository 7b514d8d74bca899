"""``vargfacenet teach``: compute a teacher's embeddings of training sets once."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Callable

from vargfacenet.commands.embedding import add_embedding_options, checked_device
from vargfacenet.commands.output import progress
from vargfacenet.data import RecordSet
from vargfacenet.train.cache import default_folder, write_embeddings
from vargfacenet.train.teacher import Teacher


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Compute a teacher's embeddings of every image of training sets and of its mirror, and store them "
        "(float16) for 'vargfacenet train --teacher PREFIX --cached'. Sets that are stored already are skipped.",
    )
    add_embedding_options(parser)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders with train.rec, train.idx and property")
    parser.add_argument("--out", metavar="DIR", help="where to store them (default: under datasets/teachers/)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device = checked_device(args)
    teacher = Teacher(args.prefix, args.epoch)
    out = pathlib.Path(args.out) if args.out else default_folder(teacher)
    for folder in args.folders:
        with contextlib.closing(RecordSet(folder)) as records:
            with progress(total=len(records), unit="image", desc=str(records.path)) as bar:
                path = write_embeddings(
                    teacher, records, out, device=device, batch_size=args.batch_size, progress=bar.update
                )
            print(f"{path}: {teacher.embedding_size} numbers of {len(records)} images and mirrors, {records.path}")
    return 0
