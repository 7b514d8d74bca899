"""``vargfacenet data lfw``: Labeled Faces in the Wild as a verification set."""

import argparse
import pathlib

from vargfacenet.commands.output import progress
from vargfacenet.data.align import DetectedPoints
from vargfacenet.data.lfw import align_all, fetch_lfw
from vargfacenet.eval.pair_list import list_pairs
from vargfacenet.eval.pairs import write_pairs
from vargfacenet.formats.files import write_text


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    lfw = actions.add_parser(
        "lfw",
        help="download LFW, align it, and write its ten folds of pairs as .bin",
        description="Fetch Labeled Faces in the Wild through scikit-learn (about 200 MB, once), align it by a detector (pip "
        "install 'vargfacenet[align]') and write its 6,000 pairs in ten folds. An image in which no face is found is "
        "aligned by the median of the others' points, and listed next to OUT.bin in OUT-not-found.txt.",
        examples=("vargfacenet data lfw lfw.bin",),
    )
    lfw.add_argument("out", metavar="OUT.bin", help="the verification set to write")
    lfw.add_argument("--home", metavar="DIR", help="scikit-learn's data folder (default: its own)")
    lfw.add_argument("--offline", action="store_true", help="use the files that were downloaded before")
    lfw.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    find_points = DetectedPoints()
    images, pairs_file = fetch_lfw(args.home, download=not args.offline)
    pairs = list_pairs(images, pairs_file)
    paths = list(dict.fromkeys(path for pair in pairs for path in pair.paths))
    faces, fallbacks = align_all(paths, find_points, progress=lambda paths: progress(paths, unit="image"))
    write_pairs(args.out, [faces[path] for pair in pairs for path in pair.paths], [pair.is_same for pair in pairs])
    print(
        f"{args.out}: {len(pairs)} pairs of {len(paths)} images, {sum(pair.is_same for pair in pairs)} of one identity"
    )
    list_path = pathlib.Path(args.out).with_name(f"{pathlib.Path(args.out).stem}-not-found.txt")
    if fallbacks:
        write_text(list_path, "".join(f"{path.relative_to(images)}\t{reason}\n" for path, reason in fallbacks))
        print(f"aligned by the others' points: {len(fallbacks)}, listed in {list_path}")
    elif list_path.exists():
        list_path.unlink()
    return 0
