"""Pruning of a trained network: filters are scored on faces and removed in steps, and the rest is fine-tuned.

[SqueezerFaceNet, arXiv 2307.10697; scores after Molchanov et al., CVPR 2019]
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, JoinedSets
from vargfacenet.errors import DataError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import Checkpoint
from vargfacenet.operators import runnable
from vargfacenet.options import check_range
from vargfacenet.symbols.channels import Channels
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective
from vargfacenet.symbols.pruning import filters_of, least_important, remove_units, taylor_scores
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.teacher import OnlineTeacher
from vargfacenet.train.trainer import Trainer

_ALPHA = 7.0

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """Settings of a pruning.

    Attributes
    ----------
    share
        Share of the filters that are removed, above 0 and below 1, as far as each operator keeps an eighth of its channels.
    steps
        Times that filters are scored and removed, an equal part each time.
    images
        Images on which they are scored.
    updates
        Updates of fine-tuning in all; an equal part follows each step.
    lr
        Learning rate at first; it falls to 0 in each part as half a cosine.
    batch_size
        Of scoring and of fine-tuning.
    seed
        Determines which images are used, and how they are mirrored.
    """

    share: float = 0.3
    steps: int = 3
    images: int = 1024
    updates: int = 300
    lr: float = 0.01
    batch_size: int = 32
    seed: int = 0


def check_plan(plan: Plan) -> None:
    """Raise SettingError for a value out of range."""
    for name, low, high in (
        ("share", 1e-4, 0.9999),
        ("steps", 1, 1000),
        ("images", 2, 10**9),
        ("updates", 0, 10**9),
        ("lr", 0, 100),
        ("batch_size", 2, 65_536),
        ("seed", 0, 2**32 - 1),
    ):
        check_range(name, getattr(plan, name), low, high)


def prune(checkpoint: Checkpoint, records: JoinedSets, plan: Plan, *, device: mx.Context | None = None) -> Checkpoint:
    """Return a network with filters removed, and fine-tuned by angular distillation from what it was.

    Filters are scored by the gradients of ArcFace, whose classifier is the mean embedding of each identity.

    Parameters
    ----------
    checkpoint
        The network.
    records
        A training set.
    plan
        See `Plan`.
    device
        The CPU by default.

    Raises
    ------
    SettingError
        For a value out of range, or a network whose filters cannot be removed.
    DataError
        Where the images scored are of one identity.
    """
    check_plan(plan)
    device, pruned, removed = device or mx.cpu(), checkpoint, 0
    filters = sum(filters_of(Channels(checkpoint.symbol)).values())
    for step in range(1, plan.steps + 1):
        channels = Channels(pruned.symbol)
        scores = score_filters(pruned, channels, records, plan, step=step, device=device)
        left = filters - removed
        wanted = (plan.share * filters * step / plan.steps - removed) / max(left, 1)
        smaller = remove_units(channels, least_important(channels, scores, wanted), pruned.args, pruned.auxs)
        removed += smaller.removed
        log.info("step %d of %d: %d of %d filters removed", step, plan.steps, removed, filters)
        pruned = Checkpoint(smaller.symbol, smaller.args, smaller.auxs)
        pruned = fine_tune(pruned, checkpoint, records, plan, step=step, device=device)
    return pruned


def score_filters(
    checkpoint: Checkpoint, channels: Channels, records: JoinedSets, plan: Plan, *, step: int, device: mx.Context
) -> np.ndarray:
    """Return the Taylor score of each unit of `channels` of the network, a mean over batches."""
    count = math.ceil(plan.images / plan.batch_size)
    with _batches(records, plan, count=count, stream=step, mirror=False) as iterator:
        batches = [iterator.next() for _ in range(count)]
        images = [batch.data[0].copy() for batch in batches]
        labels = np.concatenate([batch.label[0].asnumpy() for batch in batches])
    identities, places = np.unique(labels, return_inverse=True)
    if len(identities) < 2:
        raise DataError(f"the {len(labels)} images that filters are scored on are of one identity: give more images")
    size = embedding_size_of(checkpoint.symbol)
    embedder = Embedder(*checkpoint, device=device, batch_size=plan.batch_size)
    means = np.zeros((len(identities), size), np.float32)
    embeddings = np.concatenate([embedder.embed_batch(batch.asnumpy()) for batch in images])
    np.add.at(means, places, embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12))
    graph = objective(
        identity=margin_softmax(
            runnable(checkpoint.symbol, for_training=True, device=device),
            mx.sym.var("softmax_label"),
            num_identities=len(identities),
            embedding_size=size,
        )
    )
    inputs = {"data": (plan.batch_size, *IMAGE_SHAPE), "softmax_label": (plan.batch_size,)}
    wanted = {name: "write" if name in checkpoint.args else "null" for name in graph.list_arguments()}
    executor = graph.simple_bind(device, grad_req=wanted, **inputs)
    executor.copy_params_from({**checkpoint.args, "fc7_weight": mx.nd.array(means)}, checkpoint.auxs)
    args = {name: value.asnumpy() for name, value in checkpoint.args.items()}
    total: np.ndarray = np.zeros(1)
    for number, batch in enumerate(images):
        label = places[number * plan.batch_size : (number + 1) * plan.batch_size]
        executor.forward(is_train=True, data=batch, softmax_label=mx.nd.array(label))
        executor.backward()
        gradients = {name: executor.grad_dict[name].asnumpy() for name in args}
        total = total + taylor_scores(channels, args, gradients)
    return total / count


def mean_cosine(
    checkpoint: Checkpoint, pruned: Checkpoint, records: JoinedSets, plan: Plan, *, device: mx.Context
) -> float:
    """Return the mean cosine of a pruned network's embeddings to those of the network before, on the plan's images.

    The images are drawn apart from those of scoring and fine-tuning, from the same set.
    """
    count = math.ceil(plan.images / plan.batch_size)
    found = []
    with _batches(records, plan, count=count, stream=2 * plan.steps + 1, mirror=False) as iterator:
        embedders = [Embedder(*one, device=device, batch_size=plan.batch_size) for one in (checkpoint, pruned)]
        for _ in range(count):
            images = iterator.next().data[0].asnumpy()
            one, other = (embedder.embed_batch(images) for embedder in embedders)
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            found.append(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
    return float(np.mean(found))


def fine_tune(
    checkpoint: Checkpoint,
    teacher: Checkpoint,
    records: JoinedSets,
    plan: Plan,
    *,
    step: int,
    device: mx.Context,
) -> Checkpoint:
    """Return a network after a step's updates of angular distillation from another of the same embedding size."""
    updates = plan.updates * step // plan.steps - plan.updates * (step - 1) // plan.steps
    if not updates:
        return checkpoint
    student = runnable(checkpoint.symbol, for_training=True, device=device)
    trainer = Trainer(
        objective(distillation=distillation(student, mx.sym.var("teacher")), alpha=_ALPHA),
        data={
            "data": (plan.batch_size, *IMAGE_SHAPE),
            "teacher": (plan.batch_size, embedding_size_of(checkpoint.symbol)),
        },
        labels={},
        sgd=SGD(lambda update: plan.lr * (1 + math.cos(math.pi * (update - 1) / updates)) / 2),
        runtime=Runtime([device]),
    )
    trainer.set_parameters(checkpoint.args, checkpoint.auxs)
    guide = OnlineTeacher(teacher, batch_size=plan.batch_size, devices=[device])
    with _batches(records, plan, count=updates, stream=plan.steps + step, mirror=True) as iterator:
        for update in range(1, updates + 1):
            batch = iterator.next()
            batch.data.append(guide.embed(batch))
            result = trainer.step(batch)
            if update % 50 == 0 or update == updates:
                log.info("update %d of %d: cosine %.4f", update, updates, result.outputs["cosine"].mean())
    return Checkpoint(checkpoint.symbol, *trainer.parameters())


@contextlib.contextmanager
def _batches(records: JoinedSets, plan: Plan, *, count: int, stream: int, mirror: bool) -> Iterator[FaceIterator]:
    """Give an iterator over batches that the seed and the number of the stream determine."""
    seed = (plan.seed + 1_000_003 * stream) % 2**32
    reader = BatchReader(records, batch_size=plan.batch_size, seed=seed, augment=Augmentation(mirror=mirror))
    iterator = FaceIterator(reader, last_update=count)
    try:
        yield iterator
    finally:
        iterator.close()
