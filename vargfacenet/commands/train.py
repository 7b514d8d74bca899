"""``vargfacenet train``: a recipe, trained and verified."""

import argparse
import pathlib
import shutil

from vargfacenet.commands.output import print_table, verification_cells
from vargfacenet.options import split_assignments

RUNS, DATASETS = pathlib.Path("runs"), pathlib.Path("datasets")


def add_parser(commands, common):
    parser = commands.add_parser(
        "train",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="train a recipe, saving and verifying as it goes",
        description="Trains a recipe on an InsightFace training set and leaves checkpoints, log and settings in a folder.\n"
        "Recipes whose names begin with demo_ train on the built-in faces when no data is given.\n"
        "Recipes are listed by 'vargfacenet train --list'.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="such as demo_student_scratch")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("--data", metavar="DIR", help="folder with train.rec, train.idx and property")
    parser.add_argument(
        "--bins", nargs="+", metavar="SET.bin", help="verification sets (default: the .bin files in the data folder)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: a new one under runs/)")
    parser.add_argument("--devices", default="cpu:0", metavar="LIST", help="such as cpu:0 (default) or gpu:0,gpu:1")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="SETTING=VALUE", help="such as batch_size=128 lr=0.05"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, or with the newest under runs/"
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.errors import SettingError
    from vargfacenet.train.config import is_demo, list_recipes, recipe_summary, resolve
    from vargfacenet.train.run import train
    from vargfacenet.train.trainer import parse_devices

    if args.list:
        print_table(["recipe", ""], [[name, recipe_summary(name)] for name in list_recipes()])
        return 0
    if not args.recipe:
        raise SettingError(f"no recipe given: there are {', '.join(list_recipes())}")
    config = resolve(args.recipe, split_assignments(args.set))
    devices = parse_devices(args.devices)
    if args.data is None and not is_demo(args.recipe):
        raise SettingError(f"{args.recipe} needs --data DIR, a folder with train.rec, train.idx and property")
    out = pathlib.Path(args.out) if args.out else _folder(args.recipe, args.resume)
    data = pathlib.Path(args.data) if args.data else _builtin_faces()
    bins = args.bins if args.bins is not None else sorted(data.glob("*.bin") if data.is_dir() else [])
    result = train(config, data=data, out=out, bins=bins, devices=devices, resume=args.resume)
    _report(result)
    return 0


def _folder(recipe, resume):
    """``runs/RECIPE``, or with a number behind it: the highest there is to resume, or the one after it."""
    taken = [path.name[len(recipe) + 1 :] for path in RUNS.glob(f"{recipe}-*")]
    highest = max([int(number) for number in taken if number.isdecimal()], default=1 if (RUNS / recipe).exists() else 0)
    number = max(highest, 1) if resume else highest + 1
    return RUNS / (recipe if number == 1 else f"{recipe}-{number}")


def _builtin_faces():
    from vargfacenet.commands.data import BUILTIN, write_builtin_set

    folder = DATASETS / "synth"
    if not folder.exists():
        # Drawn beside it and renamed, so that a stop leaves nothing that looks like a set.
        half = DATASETS / ".synth-half-drawn"
        shutil.rmtree(half, ignore_errors=True)
        write_builtin_set(half, **BUILTIN)
        half.rename(folder)
    return folder


def _report(result):
    scores = result.verifications
    print()
    if scores:
        names = list(next(iter(scores.values())))
        headers = ["network"] + [title for name in names for title in (name, "TAR@FAR=1e-3")]
        last = max(scores)
        labels = {0: "untrained", last: f"after {last} updates"}
        if result.best_update is not None:
            labels.setdefault(result.best_update, f"after {result.best_update} updates")
            labels[result.best_update] += " (best)"
        rows = []
        for update in sorted(set(labels) & set(scores)):
            cells = [cell for name in names for cell in verification_cells(scores[update][name])]
            rows.append([labels[update], *cells])
        print_table(headers, rows)
        print(f"\nbest checkpoint: {result.out / 'best'}, epoch 0")
    print(f"latest checkpoint: {result.out / 'latest'}, epoch 0")
    print(f"{result.updates} updates in {result.seconds / 60:.1f} minutes; log in {result.out / 'log.jsonl'}")
