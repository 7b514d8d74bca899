"""``vargfacenet data pairs``: a verification set of aligned images."""

import argparse

from vargfacenet.eval.pair_list import pairs_from_folder
from vargfacenet.eval.pairs import write_pairs


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pairs = actions.add_parser(
        "pairs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="a list of pairs -> .bin",
        description="Writes the images that a file lists in pairs as a verification set. Its lines read\n"
        "  PATH1 PATH2 1          one person (0: two), paths below IMAGES\n"
        "or, as in LFW's pairs.txt,\n"
        "  NAME i j               NAME/NAME_000i.jpg and NAME/NAME_000j.jpg, one person\n"
        "  NAME1 i NAME2 j        two persons\n"
        "with blanks, tabs or commas between. The protocol takes ten folds of them in this order.",
    )
    pairs.add_argument("images", metavar="IMAGES", help="folder of aligned 112x112 images")
    pairs.add_argument("pairs", metavar="PAIRS.txt", help="the list")
    pairs.add_argument("out", metavar="OUT.bin", help="the verification set to write")
    pairs.add_argument("--resize", action="store_true", help="scale images of another size instead of refusing them")
    pairs.set_defaults(run=run)


def run(args):
    pairs = pairs_from_folder(args.images, args.pairs, resize=args.resize)
    write_pairs(args.out, *pairs)
    print(f"{args.out}: {len(pairs.is_same)} pairs, {int(pairs.is_same.sum())} of one person")
    return 0
