"""``vargfacenet challenge``: the protocol of the Lightweight Face Recognition Challenge."""

import argparse
import pathlib
from collections.abc import Callable

from vargfacenet.commands.arguments import (
    add_embedding_arguments,
    add_json_argument,
    checked_device,
    keep_old_spelling,
)
from vargfacenet.commands.model_arguments import (
    add_cache_arguments,
    add_model_argument,
    add_runtime_arguments,
    open_cache,
    open_named,
)
from vargfacenet.commands.output import check_writable, json_writer, print_table, progress
from vargfacenet.errors import SettingError
from vargfacenet.eval.challenge import count_pairs, score_features, write_list_features
from vargfacenet.eval.image_list import read_image_list
from vargfacenet.eval.plausible import rates_doubt, threshold_doubt, warn_of
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="The protocol of the 2019 Lightweight Face Recognition Challenge (deepglint-light): write feature files "
        "of image lists, and score all pairs of a labelled list, or across two lists, exactly.",
        examples=(
            "vargfacenet challenge features runs/mine/best images.txt features.bin",
            "vargfacenet challenge score features.bin images.txt",
        ),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_features(actions)
    _add_score(actions)


def _add_features(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    features = actions.add_parser(
        "features",
        help="an image list -> a feature file",
        description="Embed the images of a list, image and mirror added and l2-normalized, and write a feature file.",
        examples=("vargfacenet challenge features student.onnx images.txt features.bin --folder aligned",),
    )
    add_model_argument(features)
    features.add_argument("list", metavar="LIST", help="lines 'PATH' or 'PATH LABEL' of aligned 112x112 images")
    features.add_argument("out", metavar="OUT.bin", help="the feature file to write")
    features.add_argument("--folder", metavar="DIR", help="folder that paths start from (default: the list's own)")
    keep_old_spelling(features, "--root", new="--folder", dest="folder")
    add_runtime_arguments(features)
    computing = features.add_argument_group("computing")
    add_embedding_arguments(computing)
    add_cache_arguments(computing)
    features.set_defaults(run=run_features)


def _add_score(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    score = actions.add_parser(
        "score",
        help="feature files and labelled lists -> rates",
        description="Compute TAR at FAR over all pairs of a labelled list, or over all pairs across two. The challenge "
        "calls them TPR and FPR.",
        examples=(
            "vargfacenet challenge score features.bin images.txt --far 1e-6 1e-8 --worst 20",
            "vargfacenet challenge score features.bin images.txt others.bin others.txt --json rates.json",
        ),
    )
    score.add_argument("features", metavar="FEATURES", help="a feature file")
    score.add_argument(
        "list", metavar="LIST", help="its list, with labels; -1 for a face that is in no pair of one identity"
    )
    score.add_argument("others", metavar="OTHERS", nargs="?", help="a second feature file: pairs are across the two")
    score.add_argument("other_list", metavar="OTHER_LIST", nargs="?", help="its list")
    score.add_argument(
        "--far", type=float, nargs="+", default=[1e-8], metavar="RATE", help="false accept rates (default 1e-8)"
    )
    score.add_argument(
        "--worst", type=int, default=0, metavar="N", help="also list the N most similar pairs of different identities"
    )
    add_json_argument(score)
    score.set_defaults(run=run_score)


def run_features(args: argparse.Namespace) -> int:
    check_writable(args.out)
    model = open_named(args, args.model, device=checked_device(args), batch_size=args.batch_size)
    folder = pathlib.Path(args.folder) if args.folder else pathlib.Path(args.list).parent
    with open_cache(args) as cache, progress(unit="image") as bar:
        rows, columns = write_list_features(
            cache, model.embedder, model.cache_key, args.list, folder, args.out, progress=bar.update
        )
    print(f"{args.out}: embeddings of {columns} numbers of {rows} images, image and mirror added, l2-normalized")
    return 0


def run_score(args: argparse.Namespace) -> int:
    check_range("--worst", args.worst, 0, 10_000)
    if args.others and not args.other_list:
        raise SettingError(f"{args.others} has no list: give FEATURES LIST OTHERS OTHER_LIST")
    given = (args.features, args.list, args.others, args.other_list)
    with json_writer(args.json) as write_json:
        with progress(total=count_pairs(args.features, args.others), unit="pair", unit_scale=True) as bar:
            found = score_features(*given, fars=args.far, worst=args.worst, progress=bar.update)
        doubts = [
            rates_doubt({f"{rate.far:g}": rate.tar for rate in found.rates}, found.same),
            threshold_doubt(rate.threshold for rate in found.rates),
        ]
        warn_of(args.features, doubts)
        print(f"{found.same:,} pairs of one identity, {found.different:,} of different identities")
        rows = []
        for rate in found.rates:
            if rate.tar is None:
                rows.append([f"{rate.far:g}", "not measurable", "-", "-", "-"])
            else:
                counts = [f"{rate.accepted_same:,}", f"{rate.accepted_different:,}"]
                rows.append([f"{rate.far:g}", f"{rate.tar:.5f}", f"{rate.threshold:.6f}", *counts])
        print_table(["FAR", "TAR", "cosine above", "accepted of one identity", "of different ones"], rows)
        if found.worst:
            here, there = (read_image_list(name).paths for name in (args.list, args.other_list or args.list))
            print_table(
                ["cosine", "image", "and"], [[f"{score:.4f}", here[i], there[j]] for score, i, j in found.worst]
            )
        rates = [rate._asdict() for rate in found.rates]
        write_json({"same": found.same, "different": found.different, "rates": rates, "worst": found.worst})
    return 0
