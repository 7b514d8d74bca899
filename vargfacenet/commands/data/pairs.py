"""``vargfacenet data pairs``: a verification set of aligned images."""

import argparse

from vargfacenet.eval.pair_list import pairs_from_folder
from vargfacenet.eval.pairs import write_pairs


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pairs = actions.add_parser(
        "pairs",
        help="a list of pairs -> .bin",
        description="Write the images that a file lists in pairs as a verification set. Blanks, tabs or commas separate the "
        "parts of a line:\n\n"
        "  PATH1 PATH2 1          one identity (0: two), paths below IMAGES\n"
        "  NAME i j               NAME/NAME_000i.jpg and NAME/NAME_000j.jpg, one identity, as in LFW's pairs.txt\n"
        "  NAME1 i NAME2 j        two identities, as there\n\n"
        "The protocol divides the pairs into ten folds in this order.",
        examples=("vargfacenet data pairs aligned pairs.txt mine.bin",),
    )
    pairs.add_argument("images", metavar="IMAGES", help="folder of aligned 112x112 images")
    pairs.add_argument("pairs", metavar="PAIRS.txt", help="the list")
    pairs.add_argument("out", metavar="OUT.bin", help="the verification set to write")
    pairs.add_argument("--resize", action="store_true", help="scale images of another size instead of refusing them")
    pairs.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    pairs = pairs_from_folder(args.images, args.pairs, resize=args.resize)
    write_pairs(args.out, *pairs)
    print(f"{args.out}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one identity")
    return 0
