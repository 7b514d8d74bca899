"""``vargfacenet train``: a recipe, trained and verified."""

import argparse
import contextlib
import logging
import pathlib
import shutil

from vargfacenet.commands.output import print_table, verification_cells
from vargfacenet.options import check_range, split_assignments

RUNS, DATASETS = pathlib.Path("runs"), pathlib.Path("datasets")
DEMO_TEACHER = "demo_teacher"
AUTOMATIC = "automatic"

log = logging.getLogger(__name__)


def add_parser(commands, common):
    parser = commands.add_parser(
        "train",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        help="train a recipe, saving and verifying as it goes",
        description="Trains a recipe on InsightFace training sets and leaves checkpoints, log and settings in a folder.\n"
        "Recipes whose names begin with demo_ train on the built-in faces when no data is given, and train a teacher\n"
        "of their own where they need one. Recipes are listed by 'vargfacenet train --list'.\n\n"
        "SIGINT (Ctrl-C) and SIGTERM finish the update that is running, save, and end with status 130 and 143; a second\n"
        "one ends at once with the same status. --resume goes on from either.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="such as demo_student")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="folders with train.rec, train.idx and property; identities of several stand side by side",
    )
    parser.add_argument(
        "--bins", nargs="+", metavar="SET.bin", help="verification sets (default: the .bin files in the data folders)"
    )
    parser.add_argument(
        "--teacher", metavar="PREFIX", help="checkpoint to learn from, as in PREFIX-symbol.json; any network's"
    )
    parser.add_argument("--teacher-epoch", type=int, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument(
        "--teacher-classifier",
        metavar="PATH",
        help="where the teacher's classifier is, for arcdistill and margin_distillation: the folder of the run that trained "
        "it, or a file (default: the folder of PREFIX)",
    )
    parser.add_argument(
        "--cached",
        nargs="?",
        const=AUTOMATIC,
        metavar="DIR",
        help="take the teacher's embeddings from where 'vargfacenet teach' left them, or from DIR",
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default: a new one under runs/)")
    parser.add_argument("--devices", default="cpu:0", metavar="LIST", help="such as cpu:0 (default) or gpu:0,gpu:1")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="SETTING=VALUE", help="such as batch_size=128 lr=0.05"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, or with the newest under runs/"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --resume: go on although settings or data are not the run's, as far as they fit; says what differs",
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.launch.beats import Beats

    beats = Beats()  # before MXNet is loaded, which takes seconds

    from vargfacenet.errors import SettingError, Stopped
    from vargfacenet.train.cache import default_folder
    from vargfacenet.train.cluster import join
    from vargfacenet.train.config import is_demo, list_recipes, recipe_summary, resolve
    from vargfacenet.train.run import check_folder, train
    from vargfacenet.train.stopping import Stopping
    from vargfacenet.train.teacher import Teacher
    from vargfacenet.train.trainer import parse_devices

    if args.list:
        print_table(["recipe", ""], [[name, recipe_summary(name)] for name in list_recipes()])
        return 0
    if not args.recipe:
        raise SettingError(f"no recipe given: there are {', '.join(list_recipes())}")
    if args.force and not args.resume:
        raise SettingError("--force goes with --resume: it is for a run that goes on with other settings or data")
    config = resolve(args.recipe, split_assignments(args.set))
    devices = parse_devices(args.devices)
    if args.teacher_epoch is not None and not args.teacher:
        raise SettingError("--teacher-epoch needs --teacher PREFIX, whose epoch it is")
    epoch = args.teacher_epoch or 0
    check_range("--teacher-epoch", epoch, 0, 9999)
    demo = is_demo(args.recipe)
    if args.data is None and not demo:
        raise SettingError(f"{args.recipe} needs --data DIR, a folder with train.rec, train.idx and property")
    if args.cached and not args.teacher:
        raise SettingError("--cached needs --teacher PREFIX, whose embeddings they are")
    if args.teacher_classifier and not config.has_frozen_classifier:
        raise SettingError(
            f"--teacher-classifier is for distillation=arcdistill and margin_distillation, not {config.distillation}"
        )
    cluster = join(beats)
    if not cluster.is_first:
        logging.getLogger("vargfacenet").setLevel(logging.WARNING)  # the first worker says it all
    out = pathlib.Path(cluster.share(args.out or str(_folder(args.recipe, args.resume))))
    data = [pathlib.Path(folder) for folder in args.data] if args.data else [cluster.in_turn(_builtin_faces)]
    bins = args.bins if args.bins is not None else _bins_beside(data)
    prefix = args.teacher
    stopping = Stopping()
    try:
        if config.distils and prefix is None and demo:
            if cluster.is_first:
                check_folder(out, config, resume=args.resume, force=args.force)  # before minutes of training
            folder = RUNS / DEMO_TEACHER if not args.data else out / "teacher"
            prefix = _demo_teacher(config, folder, data, bins, devices, stopping, cluster)
        teacher = Teacher(prefix, epoch) if prefix else None
        result = train(
            config,
            data=data,
            out=out,
            bins=bins,
            devices=devices,
            resume=args.resume,
            teacher=teacher,
            teacher_classifier=args.teacher_classifier,
            cache=default_folder(teacher) if args.cached == AUTOMATIC else args.cached,
            force=args.force,
            stopping=stopping,
            cluster=cluster,
        )
    except Stopped:
        cluster.leave()
        raise
    if cluster.is_first:
        _report(result)
    cluster.leave()
    return 0


def _folder(recipe, resume):
    """``runs/RECIPE``, or with a number behind it: the highest there is to resume, or the one after it."""
    taken = [path.name[len(recipe) + 1 :] for path in RUNS.glob(f"{recipe}-*")]
    highest = max([int(number) for number in taken if number.isdecimal()], default=1 if (RUNS / recipe).exists() else 0)
    number = max(highest, 1) if resume else highest + 1
    return RUNS / (recipe if number == 1 else f"{recipe}-{number}")


def _builtin_faces():
    from vargfacenet.commands.data.synth import BUILTIN, write_builtin_set

    folder = DATASETS / "synth"
    if not folder.exists():
        # Drawn beside it and renamed, so that a stop leaves nothing that looks like a set.
        half = DATASETS / ".synth-half-drawn"
        shutil.rmtree(half, ignore_errors=True)
        write_builtin_set(half, **BUILTIN)
        half.rename(folder)
    return folder


def _bins_beside(folders):
    """The .bin files in data folders, those that several have alike once."""
    from vargfacenet.files import fingerprint

    found = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.bin"))):
        found.setdefault((path.name, fingerprint([path])), path)
    return list(found.values())


def _demo_teacher(student, out, data, bins, devices, stopping, cluster):
    """Trains the teacher of demo recipes into a folder, or what is left of it, and gives its checkpoint's prefix."""
    from vargfacenet.errors import SettingError
    from vargfacenet.train.config import resolve
    from vargfacenet.train.run import data_facts, open_sets, train
    from vargfacenet.train.state import check_same_data, is_finished, is_started

    config = resolve(DEMO_TEACHER)
    if student.embedding_size not in (None, config.embedding_size):
        raise SettingError(
            f"{DEMO_TEACHER} gives embeddings of {config.embedding_size} numbers, the student of {student.embedding_size}: "
            f"give --set embedding_size={config.embedding_size}, or another --teacher"
        )
    try:
        finished = cluster.share(cluster.is_first and is_finished(out, config))
        if finished and cluster.is_first:
            with contextlib.closing(open_sets(data)) as records:
                check_same_data(out, data_facts(records))
    except SettingError as error:
        raise SettingError(
            f"{error}; or give --teacher {out / 'latest'} to learn from it, or remove {out} to have another trained"
        ) from error
    if finished:
        log.info("the teacher is %s; remove that folder to train it anew", out / "latest")
    else:
        log.info("first its teacher: %s", DEMO_TEACHER)
        started = cluster.share(is_started(out))
        train(
            config, data=data, out=out, bins=bins, devices=devices, resume=started, stopping=stopping, cluster=cluster
        )
    return out / "latest"


def _report(result):
    from vargfacenet.train.curves import draw_curves

    print()
    names = sorted({name for one in result.generations for scores in one.verifications.values() for name in scores})
    if names:
        headers = ["network"] + [title for name in names for title in (name, "TAR@FAR=1e-3")]
        rows = []
        for label, scores in _scored_networks(result):
            rows.append([label, *(cell for name in names for cell in verification_cells(scores[name]))])
        print_table(headers, rows)
        print(f"\nbest checkpoint: {result.out / 'best'}, epoch 0")
    print(f"latest checkpoint: {result.out / 'latest'}, epoch 0")
    logs = ", ".join(str(one.out / "log.jsonl") for one in result.generations)
    print(
        f"{result.updates} updates in {result.seconds / 60:.1f} minutes; log in {logs}, curves in {draw_curves(result)}"
    )


def _scored_networks(result):
    """Label and scores of each network of a run that is worth a row: untrained, each generation, its best, the teacher."""
    for number, one in enumerate(result.generations, 1):
        name = f"generation {number}, " if len(result.generations) > 1 else ""
        last = max(one.verifications)
        shown = {last, one.best_update or last} | ({0} if number == 1 else set())
        for update in sorted(shown):
            best = " (best)" if update == one.best_update else ""
            yield f"{name}after {update} updates{best}" if update else "untrained", one.verifications[update]
    if result.teacher:
        yield "teacher", result.teacher
