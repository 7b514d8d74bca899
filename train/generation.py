"""One generation: the updates that one schedule holds, from initial weights to a verified checkpoint."""

import collections
import contextlib
import functools
import json
import logging
import pathlib
import signal

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import Augmentation, FaceIterator
from vargfacenet.errors import Stopped
from vargfacenet.files import write_text
from vargfacenet.threads import threads_in_use
from vargfacenet.train.callbacks import LOG, Progress, Verifier, best_update, read_verifications
from vargfacenet.train.classifier import OverStore, ShardedClassifier, ShardedTrainer
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.graph import embedding_size_of, training_graph
from vargfacenet.train.keeping import Follower, Keeper, restore
from vargfacenet.train.loop import fit
from vargfacenet.train.losses import DRAW, LABEL, TEACHER, check_spread, margin_of
from vargfacenet.train.multi_step import EpochCheckpoints
from vargfacenet.train.precision import LossScale, check_precision
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.state import DATA, initial_state, seed_random, warn_of_threads
from vargfacenet.train.teacher_classifier import with_classifier
from vargfacenet.train.trainer import Trainer
from vargfacenet.train.watch import Watch, ignorance

log = logging.getLogger(__name__)

Generation = collections.namedtuple("Generation", "out verifications best_update")
Generation.__doc__ = """What a generation left: its folder, verifications (dict of update to dict of set name to the
fields of a Verification, 0 being the network it began with), and the update of the best checkpoint (None: not verified).
"""


def train_generation(
    config,
    number,
    out,
    *,
    records,
    facts,
    pairs,
    devices,
    guide=None,
    classifier=None,
    before=None,
    resume=False,
    stopping=None,
    cluster=ALONE,
):
    """Trains one generation, or what is left of it.

    Parameters
    ----------
    config : Config
        The settings of the run.
    number : int
        Of the generation, 1 the first. Each goes on in the stream of samples where the one before it stopped.
    out : path
        Its folder.
    records : JoinedSets
        The training sets.
    facts : dict
        What is written down of the data.
    pairs : dict of str to Pairs
        The verification sets.
    devices : list of mx.Context
        Each takes an equal slice of a batch.
    guide : OnlineTeacher or CachedTeacher, optional
        Gives the teacher's embeddings; needed where the settings read them.
    classifier : array, optional
        The teacher's, (identities, embedding_size); needed where the settings ask for it.
    before : Generation, optional
        Whose student this one starts from; its momentum and schedule are left behind.
    resume : bool
        Whether to go on from the newest sound state in the folder.
    stopping : Stopping, optional
        See `vargfacenet.train.loop.fit`.
    cluster : Cluster
        The workers that train together; the first alone reads and writes the folder, and has `pairs`.

    Returns
    -------
    Generation

    Raises
    ------
    Stopped
        When a signal has stopped it and its state is saved.
    TrainingError, DataError, CheckpointError
        The states and checkpoints in the folder are then what they were.
    """
    cluster.report("preparing")
    embedding = config.build_symbol()
    saved, arrays = restore(out, embedding) if resume and cluster.is_first else ({}, None)
    first_update = cluster.share(saved.get("update", 0))
    updates_before = (number - 1) * config.max_updates
    reseed = functools.partial(seed_random, config.seed, number, rank=cluster.rank)
    reseed(0)
    trainer = make_trainer(config, embedding, records.num_identities, number, devices, first_update, cluster)
    if resume:
        if cluster.is_first:
            warn_of_threads(out, saved.get("threads"), threads_in_use())
            trainer.load_state(arrays)
        log.info("resuming %s at update %d of %d", out, first_update, config.max_updates)
    elif before and cluster.is_first:
        trainer.load_state(initial_state(before.out, trainer, keep_classifier=config.classifier == "keep"))
    if config.has_frozen_classifier and not resume and cluster.is_first:
        trainer.load_state(with_classifier(trainer.state(), classifier, config.head))
    trainer.share_state()
    if cluster.is_first:
        write_text(out / "config.json", config.to_json())
        write_text(out / DATA, json.dumps(facts, indent=1) + "\n")
        _begin_log(out, first_update)
    iterator = FaceIterator(
        records,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=Augmentation(
            mirror=config.mirror,
            shift=config.shift,
            color_jitter=config.color_jitter,
            cutoff=config.cutoff,
            compress=config.compress,
        ),
        mix=config.mix,
        first_update=updates_before + first_update,
        last_update=updates_before + config.max_updates,
        rank=cluster.rank,
        workers=cluster.size,
        max_bad_share=config.max_bad_share,
    )
    total, verified = config.max_updates, cluster.share(bool(pairs))
    if cluster.is_first:
        verifier = Verifier(
            embedding,
            trainer,
            pairs,
            out,
            devices[0],
            every=config.verify_every,
            total=total,
            scores=saved.get("verifications"),
        )
        verifier.begin(first_update, known=last_scores(before) if before else None)
        progress = Progress(
            iterator, trainer.schedule, out, every=config.log_every, total=total, updates_before=updates_before
        )
        keeper = Keeper(
            embedding,
            trainer,
            verifier,
            out,
            {
                "generation": number,
                "settings": json.loads(config.to_json()),
                "data": facts,
                "threads": threads_in_use(),
            },
            every=config.save_every,
            total=total,
            keep=config.keep,
        )
        unlearned = ignorance(config, records.num_identities)
        watch = Watch(trainer, len(records), config.batch_size, unlearned, warmup_updates=config.warmup_updates)
        callbacks = (progress, watch, verifier, keeper)
    else:
        callbacks = (Follower(config, verified=verified),)
    if config.save_epochs:

        def epoch_of(update):
            return iterator.epoch_of(updates_before + update)

        callbacks += (EpochCheckpoints(embedding, trainer, out, epoch_of=epoch_of, writes=cluster.is_first),)
    try:
        done = fit(
            trainer,
            _feed(iterator, guide, config, trainer.data_names, updates_before + first_update, cluster.rank),
            first_update,
            total,
            callbacks=callbacks,
            reseed=reseed,
            stopping=stopping,
            cluster=cluster,
        )
        if cluster.is_first and keeper.saved != done:
            keeper.save(done)
    finally:
        iterator.close()
        callbacks[0].close()
    if done < total:
        number = (stopping and stopping.signal) or signal.SIGTERM  # another worker's, whose number is not told
        raise Stopped(
            f"stopped by {signal.Signals(number).name} after update {done} of {total}, saved in {out}; --resume goes on",
            number,
        )
    return finished_generation(out)


def finished_generation(out):
    """The Generation that a folder holds."""
    verifications = read_verifications(out)
    return Generation(pathlib.Path(out), verifications, best_update(verifications))


def last_scores(generation):
    """Scores of the network that a generation ended with (dict of set name to fields); None where not verified."""
    return generation.verifications[max(generation.verifications)] if generation.verifications else None


def make_trainer(config, embedding, num_identities, number, devices, first_update, cluster=ALONE):
    """The trainer of a generation, with freshly drawn weights."""
    schedule = learning_rate_schedule(
        lr=config.lr * (config.generation_lr if number > 1 else 1),
        max_updates=config.max_updates,
        schedule=config.schedule,
        warmup_updates=config.warmup_updates,
        lr_steps=config.lr_steps,
        lr_factor=config.lr_factor,
        lr_final=config.lr_final,
    )
    check_precision(config.precision, devices)
    check_spread(config, len(devices) * cluster.size)
    rows = config.batch_size // cluster.size
    graph = training_graph(embedding, config, num_identities, devices[0])
    shapes = {"data": (rows, *IMAGE_SHAPE), TEACHER: (rows, embedding_size_of(embedding)), DRAW: (rows,)}
    arguments = set(graph.list_arguments())
    options = {
        "data": {name: shape for name, shape in shapes.items() if name in arguments},
        "labels": {LABEL: (rows,)} if LABEL in arguments else {},
        "devices": devices,
        "schedule": schedule,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "clip_gradient": config.clip_gradient,
        "first_update": first_update,
        "cluster": cluster,
        "loss_scale": LossScale(config.loss_scale) if config.precision == "float16" else None,
    }
    if config.head == "dense":
        return Trainer(graph, **options)
    classifier = ShardedClassifier(
        num_identities=num_identities,
        embedding_size=embedding_size_of(embedding),
        devices=devices,
        margin=margin_of(config),
        scale=config.scale,
        centres=config.centres,
        frozen=config.has_frozen_classifier,
        follow=config.distillation == "adadistill",
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        rescale=1 / config.batch_size,
        clip_gradient=config.clip_gradient,
        sample_rate=config.sample_rate,
        seed=config.seed,
        exchange=OverStore(cluster),
    )
    classifier.initialise(config.seed, number)
    return ShardedTrainer(graph, classifier=classifier, updates_before=(number - 1) * config.max_updates, **options)


def _feed(iterator, guide, config, data_names, first_update, rank=0):
    """A callable that gives the next batch, with the inputs of the losses that a set does not hold."""
    margin = margin_of(config) if DRAW in data_names else None
    update = first_update

    def feed():
        nonlocal update
        batch = iterator.next()
        batch.epoch = iterator.epoch_of(update)
        update += 1
        if guide is not None:
            batch.data.append(guide.directions(batch))
        if margin is not None:
            drawn = margin.draw(config.batch_size, seed=config.seed, update=update)
            count = len(batch.label[0])
            batch.data.append(mx.nd.array(drawn[rank * count : (rank + 1) * count]))
        return batch

    return feed


def _begin_log(out, update):
    """Leaves of a run's log what was written up to an update: what follows will be written again."""
    lines = [line for line in read_log(out) if line["update"] <= update] if (out / LOG).is_file() else []
    write_text(out / LOG, "".join(json.dumps(line) + "\n" for line in lines))


def read_log(out):
    """The lines of a generation's log (list of dict); one that was cut by a stop is left out."""
    lines = []
    for line in (pathlib.Path(out) / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines
