"""One generation: the updates that one schedule holds, from initial weights to a verified checkpoint."""

import collections
import contextlib
import functools
import json
import logging
import pathlib
import time

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import Augmentation, FaceIterator
from vargfacenet.errors import TrainingError
from vargfacenet.files import write_text
from vargfacenet.operators import in_half_precision, runnable
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train.callbacks import LOG, Follower, Keeper, Progress, Verifier, best_update, read_verifications
from vargfacenet.train.classifier import Margin, OverStore, ShardedClassifier, ShardedTrainer
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.precision import LossScale, check_precision
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.state import DATA, initial_state, load_state, saved_update, seed_random
from vargfacenet.train.trainer import Trainer

log = logging.getLogger(__name__)

Generation = collections.namedtuple("Generation", "out verifications best_update")
Generation.__doc__ = """What a generation left: its folder, verifications (dict of update to dict of set name to the
fields of a Verification, 0 being the network it began with), and the update of the best checkpoint (None: not verified).
"""


def train_generation(
    config, number, out, *, records, facts, pairs, devices, guide=None, before=None, resume=False, cluster=ALONE
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
        Gives the teacher's embeddings; needed where the settings ask for distillation.
    before : Generation, optional
        Whose student this one starts from; its momentum and schedule are left behind.
    resume : bool
        Whether to go on from the state in the folder.
    cluster : Cluster
        The workers that train together; the first alone reads and writes the folder, and has `pairs`.

    Returns
    -------
    Generation
    """
    cluster.report("preparing")
    first_update = cluster.share(saved_update(out, config) if resume and cluster.is_first else 0)
    updates_before = (number - 1) * config.max_updates
    reseed = functools.partial(seed_random, config.seed, number, rank=cluster.rank)
    reseed(0)
    embedding = config.build_symbol()
    trainer = make_trainer(config, embedding, records.num_identities, number, devices, first_update, cluster)
    if resume:
        if cluster.is_first:
            load_state(out, trainer)
        reseed(first_update)
        log.info("resuming %s at update %d of %d", out, first_update, config.max_updates)
    elif before and cluster.is_first:
        trainer.load_state(initial_state(before.out, trainer, keep_classifier=config.classifier == "keep"))
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
            embedding, trainer, pairs, out, devices[0], every=config.verify_every, total=total, resume=resume
        )
        verifier.begin(first_update, known=last_scores(before) if before else None)
        progress = Progress(
            iterator, trainer.schedule, out, every=config.log_every, total=total, updates_before=updates_before
        )
        keeper = Keeper(embedding, trainer, out, every=config.save_every, total=total, reseed=reseed)
        callbacks = (progress, verifier, keeper)
    else:
        callbacks = (Follower(config, verified=verified, reseed=reseed),)
    try:
        fit(trainer, _feed(iterator, guide), first_update, total, callbacks=callbacks, cluster=cluster)
    finally:
        iterator.close()
        callbacks[0].close()
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
    rows = config.batch_size // cluster.size
    inputs = {"data": (rows, *IMAGE_SHAPE)}
    if config.distils:
        inputs["teacher"] = (rows, embedding_size_of(embedding))
    options = {
        "data": inputs,
        "devices": devices,
        "schedule": schedule,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "clip_gradient": config.clip_gradient,
        "first_update": first_update,
        "cluster": cluster,
        "loss_scale": LossScale(config.loss_scale) if config.precision == "float16" else None,
    }
    graph = training_graph(embedding, config, num_identities, devices[0])
    if config.head == "dense":
        return Trainer(graph, labels={"softmax_label": (rows,)} if config.loss != "none" else {}, **options)
    classifier = ShardedClassifier(
        num_identities=num_identities,
        embedding_size=embedding_size_of(embedding),
        devices=devices,
        margin=Margin(config.m1, config.m2, config.m3, config.scale) if config.loss == "margin" else None,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        rescale=1 / config.batch_size,
        clip_gradient=config.clip_gradient,
        sample_rate=config.sample_rate,
        seed=config.seed,
        exchange=OverStore(cluster),
    )
    classifier.initialise(config.seed, number)
    return ShardedTrainer(
        graph, classifier=classifier, labels={}, updates_before=(number - 1) * config.max_updates, **options
    )


def training_graph(embedding, config, num_identities, device=None, *, tier=None):
    """The graph that is trained: the form of an embedding graph that runs on a device, with the losses that `config`
    asks for.

    Its inputs are ``data``, with an identity loss in it ``softmax_label``, and with distillation ``teacher``, the teacher's
    embeddings; its outputs are those of `vargfacenet.symbols.objective.objective`, or with the classifier in shards those
    of `open_objective`.
    """
    student = runnable(embedding, for_training=True, device=device, tier=tier)
    scaled = config.precision == "float16"
    if scaled:
        student = in_half_precision(student, data_shape=(2, *IMAGE_SHAPE))
    identity = learned = None
    if config.head == "sharded":
        pass
    elif config.loss == "softmax":
        identity = softmax(student, mx.sym.var("softmax_label"), num_identities=num_identities)
    elif config.loss == "margin":
        margins = {"m1": config.m1, "m2": config.m2, "m3": config.m3, "scale": config.scale}
        size = embedding_size_of(embedding)
        label = mx.sym.var("softmax_label")
        identity = margin_softmax(student, label, num_identities=num_identities, embedding_size=size, **margins)
    if config.distils:
        learned = distillation(student, mx.sym.var("teacher"), form=config.distillation)
    if config.head == "sharded":
        symbol = open_objective(student, distillation=learned, alpha=config.alpha, scaled=scaled)
    else:
        symbol = objective(identity=identity, distillation=learned, alpha=config.alpha, scaled=scaled)
    if not config.decay_norm:
        internals = symbol.get_internals()
        for name in symbol.list_arguments():
            if name.endswith("_gamma"):  # scales of BN and slopes of PReLU
                internals[name]._set_attr(__wd_mult__="0")
    return symbol


def embedding_size_of(embedding):
    """Numbers in an embedding that a graph gives (int)."""
    _, [(_, size)], _ = embedding.infer_shape(data=(1, *IMAGE_SHAPE))
    return size


def fit(trainer, feed, first_update, last_update, *, callbacks, cluster=ALONE):
    """Runs updates ``first_update + 1 .. last_update`` and calls each callback's ``after_update`` after each.

    A callback is given the update, the means of the trainer's outputs over the batch (dict of name to float), and the
    seconds spent training so far, callbacks left out. The outputs of an update are read while the next one runs, so
    that the engine never stands still for it; only before a callback that needs the parameters are they waited for, so
    that no parameters of a loss that is not finite are kept. There, all workers' running statistics are brought together.
    """
    pending, seconds = None, 0.0
    cluster.report("the first update", waiting=True)
    for update in range(first_update + 1, last_update + 1):
        begin = time.perf_counter()
        outputs = trainer.step(feed())
        done, pending = pending, (update, outputs)
        waits = update == last_update or any(callback.needs_parameters(update) for callback in callbacks)
        for item in (done, pending if waits else None):
            if item is None:
                continue
            values = _means(item, trainer)
            cluster.report(f"update {item[0]}", waiting=True)
            if waits and item is pending:
                trainer.synchronise()
                cluster.report(f"saving and verifying after update {update}")
            seconds += time.perf_counter() - begin
            for callback in callbacks:
                callback.after_update(*values, seconds)
            begin = time.perf_counter()
        if waits:
            pending = None
            cluster.report(f"update {update}", waiting=True)
        seconds += time.perf_counter() - begin


def _feed(iterator, guide):
    def feed():
        batch = iterator.next()
        if guide is not None:
            batch.data.append(guide.directions(batch))
        return batch

    return feed


def _means(item, trainer):
    """Waits for an update and gives it with the means of its outputs; TrainingError where the loss is not finite."""
    update, outputs = item
    means = {name: float(values.asnumpy().mean()) for name, values in outputs.items()}
    if not np.isfinite(means["loss"]):
        lr = trainer.schedule(update)
        raise TrainingError(
            f"update {update}: the loss is {means['loss']} at learning rate {lr:g}; the checkpoints are of earlier "
            f"updates. Try a smaller lr (--set lr={lr / 10:g}), a longer warm-up (warmup_updates), or clip_gradient=1"
        )
    return update, means


def _begin_log(out, update):
    """Leaves of a run's log what was written up to an update: what follows will be written again."""
    lines = [line for line in read_log(out) if line["update"] <= update] if (out / LOG).is_file() else []
    write_text(out / LOG, "".join(json.dumps(line) + "\n" for line in lines))


def read_log(out):
    """The lines of a generation's log (list of dict); one that was cut by a stop is left out."""
    lines = []
    for line in (pathlib.Path(out) / LOG).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines
