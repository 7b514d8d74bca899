"""``vargfacenet teach``: compute a teacher's embeddings of training sets once."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Callable

from vargfacenet.commands.arguments import add_embedding_arguments, checked_device
from vargfacenet.commands.model_arguments import add_model_argument
from vargfacenet.commands.output import progress
from vargfacenet.commands.teacher_arguments import add_teacher_scaling_arguments, open_teacher
from vargfacenet.data import RecordSet
from vargfacenet.train.cache import default_folder, write_embeddings


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Compute a teacher's embeddings of every image of training sets and of its mirror, and store them "
        "(float16) for 'vargfacenet train --teacher MODEL --cached'. Sets that are stored already are skipped.",
        examples=(
            "vargfacenet teach runs/teacher/best faces_emore",
            "vargfacenet teach model-r100-ii/model,0 faces_emore more_faces --device gpu:0 --batch-size 128",
            "vargfacenet teach w600k_r50.onnx faces_emore",
        ),
    )
    add_model_argument(parser)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders with train.rec, train.idx and property")
    parser.add_argument("--out", metavar="DIR", help="folder that stores them (default: under datasets/teachers/)")
    add_teacher_scaling_arguments(
        parser.add_argument_group(
            "network",
            "By default images are scaled as an ONNX file states it, or as its graph is recognised to need it.",
        )
    )
    add_embedding_arguments(parser.add_argument_group("computing"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    device = checked_device(args)
    teacher = open_teacher(args, args.model, args.epoch, device=device, batch_size=args.batch_size)
    out = pathlib.Path(args.out) if args.out else default_folder(teacher)
    for folder in args.folders:
        with contextlib.closing(RecordSet(folder)) as records:
            with progress(total=len(records), unit="image", desc=str(records.path)) as bar:
                path = write_embeddings(
                    teacher, records, out, device=device, batch_size=args.batch_size, progress=bar.update
                )
            print(f"{path}: {teacher.embedding_size} numbers of {len(records)} images and mirrors, {records.path}")
    return 0
