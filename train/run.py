"""A training run: data, teacher, and the generations that learn from them."""

import collections
import contextlib
import dataclasses
import logging
import math
import pathlib
import time

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.data import JoinedSets
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval import read_sets
from vargfacenet.files import alone_in, fingerprint
from vargfacenet.train.cache import open_embeddings
from vargfacenet.train.callbacks import mean_accuracy
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.generation import finished_generation, train_generation
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.keeping import restore
from vargfacenet.train.losses import check_spread
from vargfacenet.train.multi_step import MultiStepTeacher
from vargfacenet.train.precision import check_precision
from vargfacenet.train.state import check_same_data, check_settings, check_unused, is_started, saved_update
from vargfacenet.train.teacher import CachedTeacher, OnlineTeacher, check_embedding_size, teacher_scores
from vargfacenet.train.teacher_classifier import read_classifier
from vargfacenet.train.trainer import check_devices

log = logging.getLogger(__name__)

Result = collections.namedtuple("Result", "out updates seconds generations teacher")
Result.__doc__ = """What a run left: its folder, updates done and seconds taken by this call, its generations (list of
Generation), and the teacher's scores (dict of set name to the fields of a Verification; None without teacher or sets).
"""


def train(
    config,
    *,
    data,
    out,
    bins=(),
    devices=None,
    resume=False,
    teacher=None,
    teacher_classifier=None,
    cache=None,
    force=False,
    stopping=None,
    cluster=ALONE,
):
    """Trains a network and leaves its checkpoints, log, settings and state in a folder.

    Parameters
    ----------
    config : Config
        The settings.
    data : path or sequence of path
        Folders of training sets; the identities of several are put side by side.
    out : path
        Folder of the run: ``config.json``, ``log.jsonl``, ``verification.json``, checkpoints ``latest`` and ``best``
        (by mean accuracy over `bins`), and ``states``, from which the run can be taken up. A run of several
        generations has all that in ``generation-1``, ``generation-2`` and so on, and its own ``latest`` and ``best``
        when it is done.
    bins : sequence of path
        Verification sets, scored before the first update, every `verify_every` updates and at the end.
    devices : list of mx.Context, optional
        The CPU by default.
    resume : bool
        Goes on in the generation and at the update where the folder's states stand; without, the folder must hold no
        run.
    teacher : Teacher, optional
        Whom to learn from, where the settings ask for distillation.
    teacher_classifier : path, optional
        Where the teacher's classifier is, for a distillation that needs it, see
        `vargfacenet.train.teacher_classifier.read_classifier`; by default the folder of the teacher's checkpoint.
    cache : path, optional
        Folder with the teacher's embeddings of the sets, see `vargfacenet.train.cache`; without, the teacher embeds each
        batch.
    force : bool
        Resumes with other settings or data than the run's, as far as arrays fit; what differs is logged.
    stopping : Stopping, optional
        Signals that stop the run, see `vargfacenet.train.stopping`; it is listened to during updates.
    cluster : Cluster
        The workers that train together, each of whom calls this with the same settings and data. Worker 0 alone reads and
        writes `out`, and scores on `bins`. The settings hold for all together: a run can be taken up by another number.

    Returns
    -------
    Result
        Without verifications in workers other than 0.

    Raises
    ------
    SettingError, DataError, TrainingError
        Before anything is written where possible.
    Stopped
        When a signal has stopped the run, which is saved.
    """
    out, devices = pathlib.Path(out), devices or [mx.cpu()]
    cluster.report("preparing")
    config = fit_to_teacher(config, teacher)
    check_devices(config.batch_size, devices, cluster.size)
    check_spread(config, len(devices) * cluster.size)
    check_precision(config.precision, devices)
    bins = bins if cluster.is_first else ()
    pairs = read_sets(bins)
    with contextlib.ExitStack() as held:
        records = held.enter_context(contextlib.closing(open_sets(data)))
        prints = {pathlib.Path(path).stem: fingerprint([path]) for path in bins}
        cluster.check_same({**dataclasses.asdict(config), **data_facts(records, teacher=teacher), "resume": resume})
        facts = data_facts(records, prints, teacher)
        folders = generation_folders(out, config)
        if cluster.is_first:
            check_folder(out, config, resume=resume, facts=facts, force=force)
            held.enter_context(alone_in(out))
        if teacher:
            facts["learned from"] = f"{teacher}, {f'embeddings in {cache}' if cache else 'online'}"
        guide = _guide(config, teacher, records, cache, devices, cluster)
        if isinstance(guide, MultiStepTeacher):
            facts["teacher epochs"] = guide.fingerprints
            for folder in folders if resume and cluster.is_first else ():
                if is_started(folder):
                    check_same_data(folder, facts, force=force)
        classifier = None
        if config.has_frozen_classifier and not resume and cluster.is_first:
            source = teacher_classifier or pathlib.Path(teacher.prefix).parent
            classifier = read_classifier(source, records.num_identities, teacher.embedding_size)
        log.info(
            "%s: %d pictures of %d identities, %d updates of %d (%.1f epochs) on %s%s; settings in %s",
            records,
            len(records),
            records.num_identities,
            config.max_updates * config.generations,
            config.batch_size,
            config.max_updates * config.generations * config.batch_size / len(records),
            ", ".join(map(str, devices)),
            f" of each of {cluster.size} workers" if cluster.size > 1 else "",
            folders[0] / "config.json",
        )
        begin, updates, generations = time.time(), 0, []
        scores = teacher_scores(teacher, pairs, prints, cache or out, device=devices[0]) if teacher and pairs else None
        for number, folder in enumerate(folders, 1):
            # The update at which to go on; None where there is nothing to go on from.
            saved = None
            if resume and cluster.is_first and is_started(folder):
                # One that others came after is done, whatever its schedule would be now.
                done = any(is_started(later) for later in folders[number:])
                saved = config.max_updates if done else saved_update(folder)
            saved = cluster.share(saved)
            if saved is not None and saved >= config.max_updates:
                if cluster.is_first:
                    restore(folder, config.build_symbol())
                generations.append(finished_generation(folder))
                continue
            updates += config.max_updates - (saved or 0)
            if len(folders) > 1:
                log.info("generation %d of %d in %s", number, len(folders), folder)
            generations.append(
                train_generation(
                    config,
                    number,
                    folder,
                    records=records,
                    facts=facts,
                    pairs=pairs,
                    devices=devices,
                    guide=guide,
                    classifier=classifier,
                    before=generations[-1] if generations else None,
                    resume=saved is not None,
                    stopping=stopping,
                    cluster=cluster,
                )
            )
    if len(folders) > 1 and cluster.is_first:
        _leave_checkpoints(out, generations)
    cluster.wait()  # so that what worker 0 wrote is there for all
    return Result(out, updates, time.time() - begin, generations, scores)


def open_sets(data):
    """The training sets in a folder or several, pictures of the size that networks here take: JoinedSets."""
    records = JoinedSets([data] if isinstance(data, (str, pathlib.Path)) else list(data))
    try:
        for one in records.sets:
            one.check_size(*IMAGE_SHAPE[1:])
    except DataError:
        records.close()
        raise
    return records


def data_facts(records, prints=None, teacher=None):
    """What a run depends on besides its settings: a dict of JSON values that must be equal for it to go on."""
    facts = {
        "pictures": len(records),
        "identities": records.num_identities,
        "records": [one.fingerprint() for one in records.sets],
    }
    if prints is not None:
        facts["verification"] = prints
    if teacher:
        facts["teacher"] = teacher.fingerprint
    return facts


def check_folder(out, config, *, resume, facts=None, force=False):
    """SettingError where a folder does not hold what is to be resumed, or holds a run where none is to be.

    Without `facts`, what depends on data is left unchecked; with `force`, what differs is logged.
    """
    if not resume:
        check_unused(out)
        return
    folders = generation_folders(out, config)
    started = [folder for folder in folders if is_started(folder)]
    for folder in {folders[0], *started}:
        check_settings(folder, config, force=force)
    if folders[-1] in started and saved_update(folders[-1]) >= config.max_updates:
        restore(folders[-1], config.build_symbol())  # a stop may have come between the state and these
        many = f"{len(folders)} generations of " if len(folders) > 1 else ""
        if len(folders) > 1:  # a stop may have come between the last update and these
            _leave_checkpoints(out, [finished_generation(folder) for folder in folders])
        raise SettingError(f"{out} is finished ({many}{config.max_updates} updates); give another --out to train again")
    if facts:
        for folder in started:
            check_same_data(folder, facts, force=force)


def generation_folders(out, config):
    """The folder of each generation: the run's own where there is but one."""
    if config.generations == 1:
        return [pathlib.Path(out)]
    return [pathlib.Path(out) / f"generation-{number}" for number in range(1, config.generations + 1)]


def fit_to_teacher(config, teacher):
    """The settings with the teacher's embedding size, where they leave it open.

    Raises
    ------
    SettingError
        Where distillation lacks a teacher, a teacher has nothing to teach, or the embedding sizes differ.
    """
    if config.distils and teacher is None:
        raise SettingError(
            f"distillation={config.distillation} needs a teacher: give --teacher PREFIX, as in PREFIX-symbol.json "
            "('make train-teacher' trains one)"
        )
    if teacher is None:
        return config
    if not config.distils:
        raise SettingError(
            f"the teacher {teacher} has nothing to teach: these settings do not distil; give --set distillation=angular"
        )
    if config.embedding_size is None:
        config = dataclasses.replace(config, embedding_size=teacher.embedding_size)
        log.info("embedding_size=%d, the teacher's", teacher.embedding_size)
    check_embedding_size(embedding_size_of(config.build_symbol()), teacher)
    return config


def best_generation(generations):
    """The generation with the best mean accuracy, the first of equals; None where none was verified."""
    verified = [generation for generation in generations if generation.best_update is not None]
    return max(verified, key=lambda one: mean_accuracy(one.verifications[one.best_update])) if verified else None


def _guide(config, teacher, records, cache, devices, cluster):
    """Whoever gives the teacher's embeddings of a batch; None without a teacher."""
    if teacher is None or not config.reads_teacher:
        return None
    if cache is not None and config.teacher_epochs:
        raise SettingError(
            "teacher_epochs=true has a teacher for each epoch, --cached one for all: leave one of them out"
        )
    if cache is not None and config.mix:
        raise SettingError(f"mix={config.mix:g} needs a teacher that looks at each picture: leave --cached out, or mix")
    if cache is not None:
        arrays = [open_embeddings(teacher, one, cache) for one in records.sets]
        return CachedTeacher(arrays, records, mirror=config.teacher_mirror)
    rows = config.batch_size // cluster.size
    if config.teacher_epochs:
        updates = config.max_updates * config.generations
        return MultiStepTeacher(
            teacher.prefix,
            epochs=math.ceil(updates * config.batch_size / len(records)),
            embedding_size=teacher.embedding_size,
            batch_size=rows,
            devices=devices,
            mirror=config.teacher_mirror,
        )
    return OnlineTeacher(teacher, batch_size=rows, devices=devices, mirror=config.teacher_mirror)


def _leave_checkpoints(out, generations):
    """Gives the run's folder the last generation's student, and the best of all."""
    save_checkpoint(out / "latest", 0, *load_checkpoint(generations[-1].out / "latest", 0))
    best = best_generation(generations)
    if best:
        save_checkpoint(out / "best", 0, *load_checkpoint(best.out / "best", 0))
