"""The form of a margin loss: how it changes the cosines between a batch's embeddings and the identities."""

from __future__ import annotations

import typing

import numpy as np

COSINE_LIMIT = 1 - 1e-6  # keeps the slope of arccos finite


class Samples(typing.NamedTuple):
    """What a margin loss reads of each sample of a batch: Symbols or NDArrays, each (N,).

    Attributes
    ----------
    cosine
        To the sample's own identity, without margin.
    norm
        Length of the embedding before it is normalised.
    draw
        Random number of the sample, as `MarginLoss.draw` gives it; None for losses that draw nothing.
    teacher_cosine
        Of the teacher's embedding to the sample's own identity; None for losses that read no teacher.
    """

    cosine: typing.Any
    norm: typing.Any = None
    draw: typing.Any = None
    teacher_cosine: typing.Any = None


class MarginLoss:
    """Base of the margin losses; a subclass is a frozen dataclass whose fields are the settings.

    Methods take Symbols with ``operators=mx.sym`` and NDArrays with ``operators=mx.nd``, so that the classifier in the graph
    and the one in shards compute the same. Gradients flow through all of them, but for `observed`.

    Attributes
    ----------
    states : dict of str to float
        Numbers that the loss carries from update to update, and their initial values. After each update a state is
        ``momentum * state + (1 - momentum) * observed``; the loss of an update reads the new value.
    draws : bool
        Whether the loss needs a random number for each sample.
    reads_teacher : bool
        Whether the loss needs the teacher's cosines.
    state_momentum : float
        See `states`.
    """

    states: typing.ClassVar[dict[str, float]] = {}
    draws: typing.ClassVar[bool] = False
    reads_teacher: typing.ClassVar[bool] = False
    state_momentum: typing.ClassVar[float] = 0.99

    def draw(self, count: int, *, seed: int, update: int) -> np.ndarray | None:
        """Return the random numbers of a batch, float32 (count,); a pure function of its arguments."""
        return None

    def observed(self, samples: Samples, *, operators) -> tuple:
        """Return what each of `states` moves towards, each (1,); NaN leaves a state as it is."""
        return ()

    def target(self, samples: Samples, state: tuple, *, operators):
        """Return the cosine to the own identity with margin: (N,)."""
        raise NotImplementedError

    def others(self, cosines, samples: Samples, state: tuple, *, operators):
        """Return the cosines to all identities as the loss weighs them: (N, C) -> (N, C); the own one does not count."""
        return cosines

    def penalty(self, samples: Samples, *, operators):
        """Return what is added to the loss of each sample, (N,), or None."""
        return None


def angle_of(cosine, *, operators):
    """Return the angle in radians of a cosine, whose slope stays finite: any shape."""
    return operators.arccos(operators.clip(cosine, -COSINE_LIMIT, COSINE_LIMIT))
