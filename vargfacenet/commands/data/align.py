"""``vargfacenet data align``: photographs -> aligned faces."""

import argparse

from vargfacenet.commands.arguments import keep_old_spelling
from vargfacenet.commands.output import progress
from vargfacenet.data.align import DetectedPoints, ListedPoints, align_folder
from vargfacenet.formats.images import NOT_ALIGNED


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    align = actions.add_parser(
        "align",
        help="photographs -> aligned 112x112 faces, by five points",
        description="Write an aligned 112x112 JPEG of each photograph below IMAGES to the same sub-folder of DIR, by five "
        "points that a file lists or a detector finds (pip install 'vargfacenet[align]'). Of several faces the largest is "
        "taken, where faces far from the centre count less. Faces that are already in DIR are kept. Photographs that cannot "
        "be aligned are listed with the reason in DIR/not-aligned.txt; the exit status is then 1.",
        examples=(
            "vargfacenet data align photographs aligned",
            "vargfacenet data align img_celeba aligned --landmarks list_landmarks_celeba.txt",
        ),
    )
    align.add_argument("images", metavar="IMAGES", help="folder of photographs, in sub-folders of any depth")
    align.add_argument("folder", metavar="DIR", help="folder that receives the aligned faces")
    align.add_argument(
        "--landmarks",
        metavar="FILE",
        help="lines 'PATH x1 y1 .. x5 y5': left eye, right eye, nose, left and right corner of the mouth, as seen in "
        "the image; also CelebA's list (default: a detector finds them)",
    )
    align.add_argument(
        "--detector-threshold",
        type=float,
        default=0.5,
        metavar="P",
        help="least score of a detected face, 0.1 .. 1 (default 0.5)",
    )
    keep_old_spelling(align, "--threshold", new="--detector-threshold", dest="detector_threshold", type=float)
    align.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    points = ListedPoints(args.landmarks) if args.landmarks else DetectedPoints(threshold=args.detector_threshold)
    done = align_folder(args.images, args.folder, points, progress=lambda names: progress(names, unit="image"))
    kept = f", {done.kept} kept from before" if done.kept else ""
    print(f"{args.folder}: {done.written} faces aligned{kept}")
    if done.faults:
        print(f"not aligned: {len(done.faults)}, listed in {args.folder}/{NOT_ALIGNED}")
    return 1 if done.faults else 0
