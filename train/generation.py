"""One generation: the updates of one schedule, from initial weights to a verified checkpoint."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import mxnet as mx

from vargfacenet.data import BatchReader, FaceIterator, Shard
from vargfacenet.engines import torch_module, uses_torch
from vargfacenet.errors import Stopped
from vargfacenet.operators import forms_in_use
from vargfacenet.threads import threads_in_use
from vargfacenet.train.build import make_trainer
from vargfacenet.train.callback import Callback, OnlyParameters, TrainingContext, make_callbacks, written_weights
from vargfacenet.train.callbacks import Every, Follower, Progress, Verifier
from vargfacenet.train.checkpoint_writer import CheckpointWriter
from vargfacenet.train.convolution_forms import FACT, share_forms
from vargfacenet.train.engine import Arrays, TrainerProtocol
from vargfacenet.train.expected_end import ExpectedEnd
from vargfacenet.train.generation_folder import Generation, GenerationFolder
from vargfacenet.train.initial_weights import set_initial_weights
from vargfacenet.train.loop import fit
from vargfacenet.train.monitor import Monitor, ignorance
from vargfacenet.train.multi_step import EpochCheckpoints
from vargfacenet.train.random_state import seed_random, warn_of_threads
from vargfacenet.train.teacher_classifier import with_classifier

if TYPE_CHECKING:
    from vargfacenet.train.run import Run

log = logging.getLogger(__name__)


def train_generation(run: Run, number: int, *, previous: GenerationFolder | None, resume: bool) -> Generation:
    """Train one generation, or what is left of it.

    Parameters
    ----------
    run
        The run.
    number
        Number of the generation, 1 the first. Each continues the stream of samples where the previous one stopped.
    previous
        Folder of the generation whose student this one starts from, without its momentum; None for the first.
    resume
        Continue from the newest sound state in the generation's folder.

    Raises
    ------
    Stopped
        When a signal has stopped it and its state is saved.
    TrainingError, DataError, CheckpointError
        The states and checkpoints in the folder are then unchanged.
    """
    config, cluster, folder = run.config, run.runtime.cluster, run.folder.generations[number - 1]
    cluster.report("preparing")
    embedding = config.build_symbol()
    arrays = folder.restore(embedding) if resume and cluster.is_first else {}
    first_update = cluster.broadcast_object(folder.state.update if arrays else 0)
    share_forms(embedding, run.runtime, _recorded_forms(folder if resume else previous) if cluster.is_first else {})
    reseed = functools.partial(seed_random, config.seed, number, rank=cluster.rank)
    reseed(0)
    trainer = make_trainer(
        config,
        embedding,
        run.data.records.num_identities,
        generation=number,
        first_update=first_update,
        runtime=run.runtime,
    )
    if resume:
        if cluster.is_first:
            warn_of_threads(folder.path, folder.state.facts.get("threads"), threads_in_use())
            trainer.load_state(arrays)
        log.info("resuming %s at update %d of %d", folder.path, first_update, config.max_updates)
    elif previous is not None and cluster.is_first:
        keeps = config.classifier == "keep" or config.has_frozen_classifier
        trainer.load_state(_student(previous, trainer, keep_classifier=keeps))
    elif config.init is not None and previous is None and cluster.is_first:
        set_initial_weights(config.init, trainer, embedding)
    if run.classifier is not None and previous is None and not resume:
        trainer.load_state(with_classifier(trainer.state(), run.classifier, config.head))
    del arrays  # the trainer has copies
    trainer.broadcast_state()
    if cluster.is_first:
        folder.begin(config, run.facts, first_update)
    with contextlib.ExitStack() as stack:  # whatever fails from here on, the iterator and the callbacks are closed
        iterator = stack.enter_context(contextlib.closing(_iterator(run, number, first_update)))
        verified = cluster.broadcast_object(bool(run.data.pairs))
        context = TrainingContext(config, trainer, embedding, folder.path, number, run.data.records.num_identities)
        registered: list[Callback] = []
        for callback in make_callbacks(context):
            registered.append(callback)
            if cluster.is_first:
                stack.callback(callback.close)
        if config.save_epochs:
            updates_before = (number - 1) * config.max_updates
            registered.append(EpochCheckpoints(context, lambda update: iterator.epoch_of(updates_before + update)))
        callbacks: Sequence[Callback]
        if cluster.is_first:
            verifier = _verifier(run, embedding, trainer, folder, resumed=resume)
            if first_update == 0:
                verifier.begin(_last_scores(previous))
            writer = _writer(run, number, embedding, trainer, verifier)
            progress, monitor = _progress(run, number, iterator, trainer, folder), _monitor(run)
            stack.callback(progress.close)
            callbacks = (progress, monitor, *registered, verifier, writer)
        else:
            verifications = Every(config.verify_every, config.max_updates) if verified else None
            follower = Follower(Every(config.save_every, config.max_updates), verifications)
            callbacks = (follower, *map(OnlyParameters, registered))
        done = fit(
            trainer,
            _feed(run, iterator, (number - 1) * config.max_updates + first_update),
            range(first_update + 1, config.max_updates + 1),
            callbacks=callbacks,
            reseed=reseed,
            stopping=run.runtime.stopping,
            cluster=cluster,
        )
        if cluster.is_first and writer.saved != done:
            writer.save(done)
    if done < config.max_updates:
        # Another worker's signal has no number here.
        name = signal.Signals(run.runtime.stopping.signal or signal.SIGTERM)
        raise Stopped(
            f"stopped by {name.name} after update {done} of {config.max_updates}, saved in {folder.path}; --resume "
            "continues",
            name,
        )
    return folder.result()


def _recorded_forms(folder: GenerationFolder | None) -> dict[str, str]:
    """Return the forms of convolutions that the newest state in a folder was computed with; none without a folder."""
    return folder.state.facts.get(FACT, {}) if folder is not None else {}


def _student(folder: GenerationFolder, trainer: TrainerProtocol, *, keep_classifier: bool) -> Arrays:
    """Return the network that a generation left, with its classifier, or that of `trainer` unless it is kept."""
    arrays = folder.student()
    if keep_classifier:
        return arrays
    classifier = ("arg:fc7", "aux:fc7")
    kept = {key: value for key, value in arrays.items() if not key.startswith(classifier)}
    fresh = {key: value for key, value in trainer.state().items() if key.startswith(classifier)}
    return {**kept, **fresh}


def _last_scores(folder: GenerationFolder | None) -> dict | None:
    """Return the scores of the network that a generation ended with; None where it was not verified."""
    scores = folder.result().verifications if folder is not None else {}
    return scores[max(scores)] if scores else None


def _iterator(run: Run, number: int, first_update: int) -> FaceIterator:
    config, cluster, updates_before = run.config, run.runtime.cluster, (number - 1) * run.config.max_updates
    batches = BatchReader(
        run.data.records,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=config.augmentation(),
        mix=config.mix,
        shard=Shard(cluster.rank, cluster.world_size),
        max_bad_share=config.max_bad_share,
    )
    updates = {"first_update": updates_before + first_update, "last_update": updates_before + config.max_updates}
    if uses_torch(run.runtime.devices):
        make: Callable[..., FaceIterator] = torch_module("readers").make_iterator
        return make(batches, run.runtime.devices[0], config.readers, **updates)
    return FaceIterator(batches, **updates)


def _feed(run: Run, iterator: FaceIterator, first_update: int) -> Callable[[], mx.io.DataBatch]:
    """Return a function that gives the next batch, with the inputs of the losses that the training set does not hold."""
    config, cluster, head = run.config, run.runtime.cluster, run.config.cosine_head
    margin = head.margin if head is not None and head.margin.draws and config.head == "dense" else None
    updates = itertools.count(first_update)

    def next_batch() -> mx.io.DataBatch:
        update = next(updates)
        batch = iterator.next()
        batch.epoch = iterator.epoch_of(update)
        if run.teacher is not None:
            batch.data.append(run.teacher.embed(batch))
        if margin is not None:
            drawn = margin.draw(config.batch_size, seed=config.seed, update=update + 1)
            assert drawn is not None  # as the margin draws
            rows = config.batch_size // cluster.world_size
            batch.data.append(mx.nd.array(drawn[cluster.rank * rows : (cluster.rank + 1) * rows]))
        return batch

    return next_batch


def _verifier(
    run: Run, embedding: mx.sym.Symbol, trainer: TrainerProtocol, folder: GenerationFolder, *, resumed: bool
) -> Verifier:
    return Verifier(
        embedding,
        functools.partial(written_weights, run.config, trainer),
        run.data.pairs,
        folder.path,
        due=Every(run.config.verify_every, run.config.max_updates),
        device=run.runtime.devices[0],
        scores=folder.state.scores if resumed else None,
    )


def _progress(
    run: Run, number: int, iterator: FaceIterator, trainer: TrainerProtocol, folder: GenerationFolder
) -> Progress:
    return Progress(
        iterator,
        trainer.schedule,
        folder.path,
        due=Every(run.config.log_every, run.config.max_updates),
        updates_before=(number - 1) * run.config.max_updates,
        end=ExpectedEnd(run.config.max_updates * run.config.generations),
    )


def _monitor(run: Run) -> Monitor:
    config, records = run.config, run.data.records
    without = ignorance(config, records.num_identities)
    return Monitor(len(records), config.batch_size, without, warmup_updates=config.warmup_updates)


def _writer(
    run: Run, number: int, embedding: mx.sym.Symbol, trainer: TrainerProtocol, verifier: Verifier
) -> CheckpointWriter:
    config = run.config
    facts = {
        "generation": number,
        "settings": config.to_dict(),
        "data": run.facts,
        "threads": threads_in_use(),
        FACT: forms_in_use(),
    }
    return CheckpointWriter(
        embedding,
        trainer,
        verifier,
        run.folder.generations[number - 1],
        facts,
        due=Every(config.save_every, config.max_updates),
        keep=config.keep_states,
    )
