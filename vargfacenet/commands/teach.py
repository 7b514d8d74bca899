"""``vargfacenet teach``: a teacher's embeddings of training sets, computed once."""

import contextlib
import pathlib

from vargfacenet.commands.output import progress
from vargfacenet.options import check_range


def add_parser(commands, common):
    parser = commands.add_parser(
        "teach",
        parents=[common],
        help="store a teacher's embeddings of training sets",
        description="Computes a teacher's embeddings of every picture of training sets and of its mirror, and stores them "
        "(float16) for 'vargfacenet train --teacher PREFIX --cached'. Sets that are stored already are left as they are.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json; any network of the lineage")
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders with train.rec, train.idx and property")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument("--out", metavar="DIR", help="where to store them (default: under datasets/teachers/)")
    parser.add_argument("--device", default="cpu:0", help="cpu:0 (default) or gpu:N")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures at a time (default 32)")
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.data import RecordSet
    from vargfacenet.train.cache import default_folder, write_embeddings
    from vargfacenet.train.teacher import Teacher
    from vargfacenet.train.trainer import parse_device

    check_range("--batch-size", args.batch_size, 1, 4096)
    check_range("--epoch", args.epoch, 0, 9999)
    device = parse_device(args.device)
    teacher = Teacher(args.prefix, args.epoch)
    out = pathlib.Path(args.out) if args.out else default_folder(teacher)
    for folder in args.folders:
        with contextlib.closing(RecordSet(folder)) as records:
            with progress(total=len(records), unit="picture", desc=str(records.path)) as bar:
                path = write_embeddings(
                    teacher, records, out, device=device, batch_size=args.batch_size, progress=bar.update
                )
            print(f"{path}: {teacher.embedding_size} numbers of {len(records)} pictures and mirrors, {records.path}")
    return 0
