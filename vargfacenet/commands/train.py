"""``vargfacenet train``: train a recipe and verify it."""

from __future__ import annotations

import argparse
import logging
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence

from vargfacenet.commands.arguments import add_device_argument, add_set_argument, keep_old_spelling
from vargfacenet.commands.data.synth import BUILTIN, write_builtin_set
from vargfacenet.commands.model_arguments import MODEL_HELP
from vargfacenet.commands.output import VERIFICATION_HEADERS, print_table, verification_cells
from vargfacenet.commands.teacher_arguments import add_teacher_scaling_arguments, open_teacher
from vargfacenet.commands.train_settings import print_settings
from vargfacenet.engines import parse_any_devices
from vargfacenet.errors import SettingError, Stopped
from vargfacenet.formats.files import fingerprint
from vargfacenet.options import check_range, split_assignments
from vargfacenet.train.cache import default_folder
from vargfacenet.train.config import Config, resolve
from vargfacenet.train.curves import draw_curves
from vargfacenet.train.plan_check import check_run, workload
from vargfacenet.train.recipes import is_demo, list_recipes, recipe_name, recipe_summary
from vargfacenet.train.run import Result, train
from vargfacenet.train.run_folder import Resume, RunFolder
from vargfacenet.train.runtime import Runtime, join_workers
from vargfacenet.train.scores import SetScores
from vargfacenet.train.stopping import Stopping
from vargfacenet.train.teacher import Teacher
from vargfacenet.train.training_data import open_data

RUNS, DATASETS = pathlib.Path("runs"), pathlib.Path("datasets")
DEMO_TEACHER = "demo_teacher"
AUTOMATIC = "automatic"
MUST = "must"

log = logging.getLogger(__name__)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Train a recipe on InsightFace training sets, and leave checkpoints, log and settings in a folder. "
        "Recipes whose names begin with demo_ train on the built-in faces when no data is given, and train a teacher of "
        "their own where they need one.\n\n"
        "After SIGINT (Ctrl-C) or SIGTERM, the run finishes the current update, saves, and ends with status 130 or 143. A "
        "second signal ends it at once, with the same status. --resume continues in both cases.",
        examples=(
            "vargfacenet train demo_student",
            "vargfacenet train student --teacher model-r100-ii/model,0 --data faces_emore --device gpu:0,gpu:1",
            "vargfacenet train student_scratch --data faces_emore --set batch_size=128 lr=0.025 --out runs/mine --resume",
        ),
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a recipe, such as demo_student, or a file such as ./mine.py"
    )
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument(
        "--help-settings", action="store_true", help="print all settings, with the values of RECIPE if given, and stop"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        metavar="DIR",
        help="folders with train.rec, train.idx and property; the identities of several are put side by side",
    )
    data.add_argument(
        "--bins", nargs="+", metavar="SET.bin", help="verification sets (default: the .bin files in the data folders)"
    )
    teacher = parser.add_argument_group("teacher")
    teacher.add_argument("--teacher", metavar="MODEL", help=f"network to learn from: {MODEL_HELP}")
    keep_old_spelling(
        teacher, "--teacher-epoch", new="--teacher PREFIX,EPOCH", dest="teacher_epoch", type=int, default=None
    )
    teacher.add_argument(
        "--teacher-classifier",
        metavar="PATH",
        help="the teacher's classifier, for arcdistill and margin_distillation: the folder of the run that trained it, or a "
        "file (default: the folder of the teacher's checkpoint)",
    )
    teacher.add_argument(
        "--cached",
        nargs="?",
        const=AUTOMATIC,
        metavar="DIR",
        help="use the teacher's embeddings that 'vargfacenet teach' stored, in its default folder or in DIR",
    )
    add_teacher_scaling_arguments(teacher)
    run_options = parser.add_argument_group("run")
    run_options.add_argument("--out", metavar="DIR", help="folder of the run (default: a new one under runs/)")
    add_device_argument(run_options, several=True)
    run_options.add_argument(
        "--engine",
        metavar="NAME",
        help="mxnet, torch (PyTorch), or auto (default): torch on cuda devices; same as --set engine=NAME",
    )
    add_set_argument(run_options, what="settings", example="batch_size=128 lr=0.05")
    run_options.add_argument(
        "--resume",
        nargs="?",
        const="",
        type=_resume_mode,
        metavar=MUST,
        help="continue the run in --out, or the newest under runs/, and start one where there is none; "
        "--resume=must makes that an error",
    )
    run_options.add_argument(
        "--force",
        action="store_true",
        help="with --resume: continue with settings or data that are not the run's, as far as they fit; logs what differs",
    )
    parser.set_defaults(run=run)


def _resume_mode(text: str) -> str:
    if text not in ("", MUST):
        raise argparse.ArgumentTypeError(f"{text!r} is not 'must'; write --resume after the recipe, or --resume=must")
    return text


def run(args: argparse.Namespace) -> int:
    if args.list:
        print_table(["recipe", ""], [[name, recipe_summary(name)] for name in list_recipes()])
        return 0
    if args.help_settings:
        chosen = bool(args.recipe or args.set)
        print_settings(resolve(args.recipe, split_assignments(args.set)) if chosen else None)
        return 0
    if not args.recipe:
        raise SettingError(
            f"no recipe given; it comes first, before the options: there are {', '.join(list_recipes())}"
        )
    resume = None if args.resume is None else Resume(must=args.resume == MUST, force=args.force)
    if args.force and resume is None:
        raise SettingError("--force goes with --resume: it continues a run with other settings or data")
    engine = {"engine": args.engine} if args.engine else {}
    config = resolve(args.recipe, {**split_assignments(args.set), **engine})
    devices = parse_any_devices(args.device, config.engine)
    if args.teacher_epoch is not None and not args.teacher:
        raise SettingError("--teacher-epoch needs --teacher MODEL")
    check_range("--teacher-epoch", args.teacher_epoch or 0, 0, 9999)
    if not args.teacher and (args.bgr, args.input_mean, args.input_std) != (False, None, None):
        raise SettingError("--input-mean, --input-std and --bgr need --teacher MODEL: they state how it takes images")
    demo = is_demo(args.recipe)
    if args.data is None and not demo:
        raise SettingError(f"{args.recipe} needs --data DIR, a folder with train.rec, train.idx and property")
    if args.cached and not args.teacher:
        raise SettingError("--cached needs --teacher MODEL")
    if args.teacher_classifier and not config.has_frozen_classifier:
        raise SettingError(f"--teacher-classifier is for loss=arcdistill and margin_distillation, not {config.loss}")
    cluster = join_workers(devices)
    if not cluster.is_first:
        logging.getLogger("vargfacenet").setLevel(logging.WARNING)  # worker 0 logs everything
    teacher = open_teacher(args, args.teacher, args.teacher_epoch or 0) if args.teacher else None
    out = pathlib.Path(cluster.broadcast_object(args.out or str(_folder(recipe_name(args.recipe), resume))))
    data = [pathlib.Path(folder) for folder in args.data] if args.data else [cluster.in_turn(_builtin_faces)]
    bins = args.bins if args.bins is not None else _bins_beside(data)
    runtime = Runtime(devices, cluster, Stopping())
    try:
        if config.distils and teacher is None and demo:
            if cluster.is_first:  # before minutes of training
                folder = RunFolder(out, config.generations)
                folder.check(config, resume=resume)
                if folder.is_finished(config):
                    with folder.open(config, resume=resume):  # restores its checkpoints, then refuses it
                        pass
            with open_data(data) as opened:
                check_run(config, workload(config, opened, None), runtime)
            teacher_out = RUNS / DEMO_TEACHER if not args.data else out / "teacher"
            teacher = Teacher(_demo_teacher(config, teacher_out, data, bins, runtime))
        if teacher and args.cached:
            teacher = teacher.stored_in(default_folder(teacher) if args.cached == AUTOMATIC else args.cached)
        if teacher and args.teacher_classifier:
            teacher = teacher.with_classifier_in(args.teacher_classifier)
        result = train(config, data=data, out=out, bins=bins, teacher=teacher, resume=resume, runtime=runtime)
    except Stopped:
        cluster.leave()
        raise
    if cluster.is_first:
        _report(result)
    cluster.leave()
    return 0


def _folder(recipe: str, resume: Resume | None) -> pathlib.Path:
    """Return ``runs/RECIPE``, or the same with a number: the highest that exists to resume it, else the next one."""
    taken = [path.name[len(recipe) + 1 :] for path in RUNS.glob(f"{recipe}-*")]
    highest = max([int(number) for number in taken if number.isdecimal()], default=1 if (RUNS / recipe).exists() else 0)
    number = highest + 1 if resume is None else max(highest, 1)
    return RUNS / (recipe if number == 1 else f"{recipe}-{number}")


def _builtin_faces() -> pathlib.Path:
    folder = DATASETS / "synth"
    if not folder.exists():
        # Drawn under another name and renamed, so that a stop leaves nothing that looks like a set.
        half = DATASETS / ".synth-half-drawn"
        shutil.rmtree(half, ignore_errors=True)
        write_builtin_set(half, **BUILTIN)
        half.rename(folder)
    return folder


def _bins_beside(folders: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Return the .bin files in data folders; equal files of one name count once."""
    found: dict[tuple[str, str], pathlib.Path] = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.bin"))):
        found.setdefault((path.name, fingerprint([path])), path)
    return list(found.values())


def _demo_teacher(
    student: Config, out: pathlib.Path, data: list[pathlib.Path], bins: list[pathlib.Path], runtime: Runtime
) -> pathlib.Path:
    """Train the teacher of demo recipes into a folder, or what is left of it, and return its checkpoint's prefix."""
    config, cluster = resolve(DEMO_TEACHER), runtime.cluster
    if student.embedding_size not in (None, config.embedding_size):
        raise SettingError(
            f"{DEMO_TEACHER} gives embeddings of {config.embedding_size} numbers, the student of {student.embedding_size}: "
            f"give --set embedding_size={config.embedding_size}, or another --teacher"
        )
    try:
        finished = cluster.broadcast_object(cluster.is_first and _has_teacher(RunFolder(out), config, data))
    except SettingError as error:
        raise SettingError(
            f"{error}; or give --teacher {out / 'latest'} to learn from it, or remove {out} to train another one"
        ) from error
    if finished:
        log.info("the teacher is %s; remove that folder to train another one", out / "latest")
    else:
        log.info("training its teacher first: %s", DEMO_TEACHER)
        train(config, data=data, out=out, bins=bins, resume=Resume(), runtime=runtime)
    return out / "latest"


def _has_teacher(folder: RunFolder, config: Config, data: list[pathlib.Path]) -> bool:
    """Return True where a folder holds the finished teacher; SettingError where its settings or data are others."""
    folder.check(config, resume=Resume())
    if not folder.is_finished(config):
        return False
    with open_data(data) as opened:
        folder.generations[0].check_data(opened.facts(verification=False))
    folder.complete(config)
    return True


def _report(result: Result) -> None:
    print()
    names = sorted({name for one in result.generations for scores in one.verifications.values() for name in scores})
    if names:
        headers = ["network"] + [title for name in names for title in (name, VERIFICATION_HEADERS[1])]
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


def _scored_networks(result: Result) -> Iterator[tuple[str, SetScores]]:
    """Yield label and scores of the networks to show: untrained, each generation's last and best, and the teacher."""
    for number, one in enumerate(result.generations, 1):
        name = f"generation {number}, " if len(result.generations) > 1 else ""
        last = max(one.verifications)
        shown = {last, one.best_update or last} | ({0} if number == 1 else set())
        for update in sorted(shown):
            best = " (best)" if update == one.best_update else ""
            yield f"{name}after {update} updates{best}" if update else "untrained", one.verifications[update]
    if result.teacher:
        yield "teacher", result.teacher
