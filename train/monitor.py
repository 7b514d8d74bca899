"""Warn early of a run that learns nothing: collapsed embeddings, shuffled labels, a loss that is stuck."""

from __future__ import annotations

import collections
import logging
import math
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet.symbols.heads import margin_change
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.symbols.registry import LOSSES
from vargfacenet.train.callback import Callback, UpdateResult
from vargfacenet.train.config import Config

COLLAPSED, SHORT = 0.95, 0.01  # mean cosine of a batch's pairs; root mean square of an embedding's numbers
UPDATES = 20  # for which both must last
PAIRS, APART = 1000, 3.0  # pairs of one identity on which labels are judged, and the deviations that true labels exceed
DEVIATIONS = 4.0  # standard deviations from chance that count as something learned
STUCK = 0.98  # share of the loss of a network that knows nothing
VISITS, LEAST = 10, 100  # images of an identity, and updates, on which the loss is judged; an epoch at least

log = logging.getLogger(__name__)


class Ignorance(NamedTuple):
    """The result of a network that cannot tell identities apart.

    Attributes
    ----------
    identities
        Identities among which an update chooses.
    loss
        Its least identity loss.
    """

    identities: float
    loss: float


def ignorance(config: Config, num_identities: int) -> Ignorance | None:
    """Return the result of a network that knows nothing; None where there is no identity loss.

    All its cosines are alike. With plain softmax the loss is then ``ln(identities)``. With margins it is larger, because the
    margin lowers the true identity's logit; the returned loss is that at the angle where it lowers it least.
    """
    if config.loss == "none":
        return None
    count = max(1.0, num_identities * config.sample_rate)
    margin_of = LOSSES[config.loss].sharded
    if margin_of is None:
        return None  # only the graph of this loss knows
    margin = margin_of(**config.loss_options)
    if margin is None or isinstance(margin, CosineHead):
        return Ignorance(count, math.log(count))  # no margin makes it less
    cosines = mx.nd.array(np.cos(np.linspace(0, np.pi, 1000)))
    changes = margin_change(cosines, m1=margin.m1, m2=margin.m2, m3=margin.m3, operators=mx.nd).asnumpy()
    losses = np.logaddexp(0, math.log(max(count - 1, 1e-9)) - margin.scale * changes.astype(np.float64))
    return Ignorance(count, float(losses.min()))


class Monitor(Callback):
    """Warns of a run that will learn nothing, from the embeddings, labels and means of every update.

    - *Embeddings collapse*: over 20 updates in a row, the mean cosine of two images of a batch is above 0.95, or the root
      mean square of the embeddings' numbers below 0.01.
    - *Labels look shuffled*, where they are learned: after the warm-up, the cosines of 1,000 pairs of images of one
      identity, met in batches, exceed those of all pairs by less than 3 standard deviations of chance. True labels show
      even in a network that has learned almost nothing.
    - *Loss is stuck*: after the warm-up, over 100 updates, an epoch, or ten images of each identity, whichever is most,
      the identity loss is at least 0.98 times that of a network that knows nothing, and the right identity is nearest no
      more often than chance allows (4 standard deviations).

    Each warning is given once.

    Parameters
    ----------
    images, batch_size
        Images of an epoch, and of an update.
    ignorance
        The result of a network that knows nothing; None without an identity loss.
    warmup_updates
        Updates before labels and loss are judged.
    """

    def __init__(self, images: int, batch_size: int, ignorance: Ignorance | None, *, warmup_updates: int = 0) -> None:
        self._ignorance, self._warmup = ignorance, warmup_updates
        self._batch_size = batch_size
        self._cosines: collections.deque[float] = collections.deque(maxlen=UPDATES)
        self._sizes: collections.deque[float] = collections.deque(maxlen=UPDATES)
        self._excess, self._variance, self._pairs = 0.0, 0.0, 0
        needed = max(images, VISITS * ignorance.identities) / batch_size if ignorance else 0
        self._window = max(LEAST, math.ceil(needed))
        self._losses: list[float] = []
        self._hits = 0.0
        self._warned: set[str] = set()

    def after_update(self, result: UpdateResult) -> None:
        update, means = result.update, result.means
        if result.step.embedding is not None and len(result.step.embedding) > 1:
            embedding = result.step.embedding.astype(np.float32)
            sizes = np.linalg.norm(embedding, axis=1, keepdims=True)
            normalized = embedding / np.maximum(sizes, 1e-12)
            cosines = normalized @ normalized.T  # (N, N)
            np.fill_diagonal(cosines, 0)  # those of an image with itself
            pairs = len(cosines) * (len(cosines) - 1)
            mean = float(cosines.sum()) / pairs
            self._check_collapse(update, mean, float(sizes.mean() / math.sqrt(embedding.shape[1])))
            if self._judges(update) and result.step.labels and not self._warned & {"cosines", "sizes"}:
                variance = float(np.vdot(cosines, cosines)) / pairs - mean**2
                self._check_labels(update, cosines, mean, variance, result.step.labels[0])
        if self._judges(update):
            self._check_loss(update, means.get("identity_loss", means["loss"]), means.get("accuracy", 1.0))

    def _judges(self, update: int) -> bool:
        """Return True where labels and loss of an update are judged."""
        return self._ignorance is not None and update > self._warmup

    def _check_collapse(self, update: int, cosine: float, size: float) -> None:
        self._cosines.append(cosine)
        self._sizes.append(size)
        if len(self._cosines) < UPDATES:
            return
        if min(self._cosines) > COLLAPSED:
            self._warn(
                "cosines",
                f"update {update}: embeddings collapse: the mean cosine of two images of a batch was "
                f"{np.mean(self._cosines):.3f} over {UPDATES} updates, whatever their identities; a smaller lr may help",
            )
        if max(self._sizes) < SHORT:
            self._warn(
                "sizes",
                f"update {update}: embeddings vanish: the root mean square of their numbers was "
                f"{np.mean(self._sizes):.2g} over {UPDATES} updates; a smaller weight_decay or lr may help",
            )

    def _check_labels(self, update: int, cosines: np.ndarray, mean: float, variance: float, labels: np.ndarray) -> None:
        same = labels[:, None] == labels
        np.fill_diagonal(same, False)
        count = int(same.sum()) // 2  # each pair is there twice
        self._excess += float(cosines[same].sum()) / 2 - mean * count
        self._variance += variance * count
        self._pairs += count
        if self._pairs < PAIRS:
            return
        deviations = self._excess / math.sqrt(max(self._variance, 1e-12))
        if deviations < APART:
            self._warn(
                "labels",
                f"update {update}: labels look shuffled: in {self._pairs} pairs of images of one identity the cosine is "
                f"larger than in other pairs by {self._excess / self._pairs:.4f}, {deviations:.1f} standard deviations of "
                f"chance (true labels: above {APART:g}); check the set with 'vargfacenet data check'",
            )
        self._excess, self._variance, self._pairs = 0.0, 0.0, 0

    def _check_loss(self, update: int, loss: float, accuracy: float) -> None:
        self._losses.append(loss)
        self._hits += accuracy * self._batch_size
        if self._ignorance is None or len(self._losses) < self._window:
            return
        count, least = self._ignorance
        seen, chance = len(self._losses) * self._batch_size, 1 / count
        likely = seen * chance + DEVIATIONS * math.sqrt(seen * chance * (1 - chance))
        mean = math.fsum(self._losses) / len(self._losses)
        if mean > STUCK * least and self._hits <= likely:
            self._warn(
                "loss",
                f"update {update}: the loss is stuck: {mean:.3f} over {len(self._losses)} updates; a network that knows "
                f"nothing has at least {least:.3f} (ln({count:.0f}) = {math.log(count):.3f}, and the margin), and the "
                f"right identity is nearest for {self._hits / seen:.3%} of {seen} images, by chance for {chance:.3%}; check "
                "labels and learning rate",
            )
        self._losses, self._hits = [], 0.0

    def _warn(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("%s", message)
