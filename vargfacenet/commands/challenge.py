"""``vargfacenet challenge``: the protocol of the Lightweight Face Recognition Challenge."""

import argparse
import json
import pathlib
from collections.abc import Callable

from vargfacenet.commands.embedding import add_device_options, checked_device
from vargfacenet.commands.model_options import add_cache_options, add_model_options, cache_of, open_named
from vargfacenet.commands.output import print_table, progress
from vargfacenet.errors import SettingError
from vargfacenet.eval.challenge import count_pairs, score_features, write_list_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.formats.files import write_text
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="The protocol of the 2019 Lightweight Face Recognition Challenge (deepglint-light): writes feature files "
        "of image lists, and scores all pairs of a labelled list, or across two, exactly.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    features = actions.add_parser("features", help="an image list -> a feature file")
    add_model_options(features, images=False)
    features.add_argument("list", metavar="LIST", help="lines 'PATH' or 'PATH LABEL' of aligned 112x112 images")
    features.add_argument("out", metavar="OUT.bin", help="the feature file to write")
    features.add_argument("--root", metavar="DIR", help="where paths start from (default: the list's folder)")
    add_device_options(features)
    add_cache_options(features)
    features.set_defaults(run=run_features)

    score = actions.add_parser("score", help="feature files and labelled lists -> rates")
    score.add_argument("features", metavar="FEATURES", help="a feature file")
    score.add_argument("list", metavar="LIST", help="its list, with labels; -1 for a face that is nobody's")
    score.add_argument("others", metavar="OTHERS", nargs="?", help="a second feature file: pairs are across the two")
    score.add_argument("other_list", metavar="OTHER_LIST", nargs="?", help="its list")
    score.add_argument(
        "--far", type=float, nargs="+", default=[1e-8], metavar="RATE", help="false positive rates (default 1e-8)"
    )
    score.add_argument(
        "--worst", type=int, default=0, metavar="N", help="name the N most alike pairs of different people too"
    )
    score.add_argument("--json", metavar="FILE", help="write the results here too")
    score.set_defaults(run=run_score)


def run_features(args):
    model = open_named(args, args.model, device=checked_device(args), batch_size=args.batch_size)
    root = pathlib.Path(args.root) if args.root else pathlib.Path(args.list).parent
    with cache_of(args) as cache, progress(unit="image") as bar:
        rows, columns = write_list_features(
            cache, model.embedder, model.mark, args.list, root, args.out, progress=bar.update
        )
    print(f"{args.out}: {columns} numbers of each of {rows} images, image and mirror added, at length 1")
    return 0


def run_score(args):
    check_range("--worst", args.worst, 0, 10_000)
    if args.others and not args.other_list:
        raise SettingError(f"{args.others} has no list: give FEATURES LIST OTHERS OTHER_LIST")
    given = (args.features, args.list, args.others, args.other_list)
    with progress(total=count_pairs(args.features, args.others), unit="pair", unit_scale=True) as bar:
        found = score_features(*given, fars=args.far, worst=args.worst, progress=bar.update)
    print(f"{found.same:,} pairs of one person, {found.different:,} of different people")
    rows = []
    for rate in found.rates:
        if rate.tar is None:
            rows.append([f"{rate.far:g}", "not measurable", "-", "-", "-"])
        else:
            counts = [f"{rate.accepted_same:,}", f"{rate.accepted_different:,}"]
            rows.append([f"{rate.far:g}", f"{rate.tar:.5f}", f"{rate.threshold:.6f}", *counts])
    print_table(["FPR", "TPR", "cosine above", "accepted of one person", "of different"], rows)
    if found.worst:
        here, there = (read_image_list(name).paths for name in (args.list, args.other_list or args.list))
        print_table(["cosine", "image", "and"], [[f"{score:.4f}", here[i], there[j]] for score, i, j in found.worst])
    if args.json:
        rates = [rate._asdict() for rate in found.rates]
        content = {"same": found.same, "different": found.different, "rates": rates, "worst": found.worst}
        write_text(args.json, json.dumps(content, indent=1) + "\n")
    return 0
