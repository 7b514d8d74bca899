"""``vargfacenet data align``: photographs -> aligned faces."""

import argparse

from vargfacenet.commands.output import progress
from vargfacenet.data.align import DetectedPoints, ListedPoints, align_folder
from vargfacenet.formats.images import NOT_ALIGNED


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    align = actions.add_parser(
        "align",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="photographs -> aligned 112x112 faces, by five points",
        description="Writes an aligned 112x112 JPEG of each photograph below IMAGES into the same sub-folders of DIR, by five\n"
        "points that a file lists or a detector finds (pip install 'vargfacenet[align]'). Of several faces it takes the\n"
        "largest, those far from the centre counting less. Faces that are already in DIR are kept.\n"
        "What cannot be aligned is listed with the reason in DIR/not-aligned.txt. Exit status 1 if there is any.",
    )
    align.add_argument("images", metavar="IMAGES", help="folder of photographs, in sub-folders of any depth")
    align.add_argument("folder", metavar="DIR", help="where the aligned faces go")
    align.add_argument(
        "--landmarks",
        metavar="FILE",
        help="lines 'PATH x1 y1 .. x5 y5': left eye, right eye, nose, left and right corner of the mouth, as seen; also "
        "CelebA's list (default: a detector finds them)",
    )
    align.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="how sure the detector must be, 0.1 .. 1 (default 0.5)",
    )
    align.set_defaults(run=run)


def run(args):
    points = ListedPoints(args.landmarks) if args.landmarks else DetectedPoints(threshold=args.threshold)
    done = align_folder(args.images, args.folder, points, progress=lambda names: progress(names, unit="image"))
    kept = f", {done.kept} were there already" if done.kept else ""
    print(f"{args.folder}: {done.written} faces aligned{kept}")
    if done.faults:
        print(f"not aligned: {len(done.faults)}, listed in {args.folder}/{NOT_ALIGNED}")
    return 1 if done.faults else 0
