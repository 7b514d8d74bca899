"""Signs that a run learns nothing, said early and once each: collapsed embeddings, shuffled labels, a loss that is stuck."""

import collections
import logging
import math

import mxnet as mx
import numpy as np

from vargfacenet.symbols.heads import margin_change

COLLAPSED, SHORT = 0.95, 0.01  # mean cosine of a batch's pairs; root mean square of an embedding's numbers
UPDATES = 20  # for which both must last
PAIRS, APART = 1000, 3.0  # pairs of one identity on which labels are judged, and the deviations that true ones come to
DEVIATIONS = 4.0  # standard deviations from chance that count as something learned
STUCK = 0.98  # share of the loss of a network that knows nothing
VISITS, LEAST = 10, 100  # pictures an identity, and updates, on which the loss is judged, and at least an epoch

Ignorance = collections.namedtuple("Ignorance", "identities loss")
Ignorance.__doc__ = (
    "Identities among which an update chooses, and the least loss of a network that tells none of them apart."
)

log = logging.getLogger(__name__)


def ignorance(config, num_identities):
    """What a network that knows nothing comes to (Ignorance); None where there is no identity loss.

    All its cosines are alike. With plain softmax the loss is then ``ln(identities)``; with margins it is larger by what the
    margin takes from the true identity's logit, which is least at some angle.
    """
    if config.loss == "none":
        return None
    count = max(1.0, num_identities * config.sample_rate)
    if config.loss != "margin":
        return Ignorance(count, math.log(count))  # no margin of any loss makes it less
    cosines = mx.nd.array(np.cos(np.linspace(0, np.pi, 1000)))
    changes = margin_change(cosines, m1=config.m1, m2=config.m2, m3=config.m3, operators=mx.nd).asnumpy()
    losses = np.logaddexp(0, math.log(max(count - 1, 1e-9)) - config.scale * changes.astype(np.float64))
    return Ignorance(count, float(losses.min()))


class Watch:
    """Warns of what will come to nothing; looks at every update's embeddings, labels and means.

    - *Embeddings collapse*: over 20 updates in a row, the mean cosine of two pictures of a batch is above 0.95, or the root
      mean square of the embeddings' numbers below 0.01.
    - *Labels look shuffled*, where they are learned: after the warm-up, of 1,000 pairs of pictures of one identity, met in
      batches, the cosines are no larger than those of all pairs by more than 3 standard deviations of chance. True labels
      show in a network that has learned next to nothing.
    - *Loss is stuck*: after the warm-up, over 100 updates, an epoch, or ten pictures an identity, whichever is most, the
      identity loss is no lower than 0.98 times that of a network that knows nothing, and the right identity nearest no more
      often than chance allows (4 standard deviations).

    Parameters
    ----------
    trainer : Trainer
        Whose ``embedding`` and ``labels`` to look at.
    pictures, batch_size : int
        Of an epoch, and of an update.
    ignorance : Ignorance or None
        What a network that knows nothing comes to; None without an identity loss.
    warmup_updates : int
        Updates before labels and loss are judged.
    """

    def __init__(self, trainer, pictures, batch_size, ignorance, *, warmup_updates=0):
        self._trainer, self._ignorance, self._warmup = trainer, ignorance, warmup_updates
        self._batch_size = batch_size
        self._cosines, self._sizes = (collections.deque(maxlen=UPDATES) for _ in range(2))
        self._excess, self._variance, self._pairs = 0.0, 0.0, 0
        needed = max(pictures, VISITS * ignorance.identities) / batch_size if ignorance else 0
        self._window = max(LEAST, math.ceil(needed))
        self._losses, self._hits = [], 0.0
        self._warned = set()

    def needs_parameters(self, update):
        return False

    def after_update(self, update, means, seconds):
        if self._trainer.embedding is not None and len(self._trainer.embedding) > 1:
            embedding = self._trainer.embedding.asnumpy().astype(np.float32)
            sizes = np.linalg.norm(embedding, axis=1, keepdims=True)
            directions = embedding / np.maximum(sizes, 1e-12)
            cosines = directions @ directions.T  # (N, N)
            np.fill_diagonal(cosines, 0)  # those of a picture with itself
            pairs = len(cosines) * (len(cosines) - 1)
            mean = float(cosines.sum()) / pairs
            self._check_collapse(update, mean, float(sizes.mean() / math.sqrt(embedding.shape[1])))
            if self._judges(update) and self._trainer.labels and not self._warned & {"cosines", "sizes"}:
                labels = self._trainer.labels[0].asnumpy()
                variance = float(np.vdot(cosines, cosines)) / pairs - mean**2
                self._check_labels(update, cosines, mean, variance, labels)
        if self._judges(update):
            self._check_loss(update, means.get("identity_loss", means["loss"]), means.get("accuracy", 1.0))

    def _judges(self, update):
        """Whether what is learned of identities is looked at in an update."""
        return self._ignorance is not None and update > self._warmup

    def _check_collapse(self, update, cosine, size):
        self._cosines.append(cosine)
        self._sizes.append(size)
        if len(self._cosines) < UPDATES:
            return
        if min(self._cosines) > COLLAPSED:
            self._warn(
                "cosines",
                f"update {update}: embeddings collapse: the mean cosine of two pictures of a batch was "
                f"{np.mean(self._cosines):.3f} over {UPDATES} updates, whoever is on them; a smaller lr may help",
            )
        if max(self._sizes) < SHORT:
            self._warn(
                "sizes",
                f"update {update}: embeddings vanish: the root mean square of their numbers was "
                f"{np.mean(self._sizes):.2g} over {UPDATES} updates; a smaller weight_decay or lr may help",
            )

    def _check_labels(self, update, cosines, mean, variance, labels):
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
                f"update {update}: labels look shuffled: in {self._pairs} pairs of pictures of one identity the cosine is "
                f"larger than in other pairs by {self._excess / self._pairs:.4f}, {deviations:.1f} standard deviations of "
                f"chance (true labels: above {APART:g}); 'vargfacenet data check' looks at the set",
            )
        self._excess, self._variance, self._pairs = 0.0, 0.0, 0

    def _check_loss(self, update, loss, accuracy):
        self._losses.append(loss)
        self._hits += accuracy * self._batch_size
        if len(self._losses) < self._window:
            return
        count, least = self._ignorance
        seen, chance = len(self._losses) * self._batch_size, 1 / count
        likely = seen * chance + DEVIATIONS * math.sqrt(seen * chance * (1 - chance))
        mean = math.fsum(self._losses) / len(self._losses)
        if mean > STUCK * least and self._hits <= likely:
            self._warn(
                "loss",
                f"update {update}: the loss is stuck: {mean:.3f} over {len(self._losses)} updates, where one that knows "
                f"nothing comes to at least {least:.3f} (ln({count:.0f}) = {math.log(count):.3f}, and the margin), and the "
                f"right identity is nearest for {self._hits / seen:.3%} of {seen} pictures, by chance for {chance:.3%}; look "
                "at labels and learning rate",
            )
        self._losses, self._hits = [], 0.0

    def _warn(self, kind, message):
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("%s", message)
