"""The form of a margin loss: how it changes the cosines between a batch's embeddings and the identities."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from vargfacenet.errors import SettingError

COSINE_LIMIT = 1 - 1e-6  # keeps the slope of arccos finite


class Samples(NamedTuple):
    """Numbers of each sample of a batch that a margin loss reads: Symbols or NDArrays, each (N,).

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

    cosine: Any
    norm: Any = None
    draw: Any = None
    teacher_cosine: Any = None


class MarginLoss:
    """Base of the margin losses; a subclass is a frozen dataclass whose fields are the settings.

    Methods take Symbols with ``operators=mx.sym`` and NDArrays with ``operators=mx.nd``, so that the classifier in the graph
    and the one in shards compute the same. Gradients flow through all of them, but for `observed`.

    Attributes
    ----------
    states
        Numbers that the loss carries from update to update, and their initial values. After each update a state is
        ``momentum * state + (1 - momentum) * observed``; the loss of an update reads the new value.
    draws
        True where the loss needs a random number for each sample.
    reads_teacher
        True where the loss needs the teacher's cosines.
    state_momentum
        See `states`.
    """

    states: ClassVar[dict[str, float]] = {}
    draws: ClassVar[bool] = False
    reads_teacher: ClassVar[bool] = False
    state_momentum: ClassVar[float] = 0.99

    def draw(self, count: int, *, seed: int, update: int) -> np.ndarray | None:
        """Return the random numbers of a batch, float32 (count,); a pure function of its arguments."""
        return None

    def observed(self, samples: Samples, *, operators: Any) -> tuple:
        """Return what each of `states` moves towards, each (1,); NaN leaves a state as it is."""
        return ()

    def target(self, samples: Samples, state: tuple, *, operators: Any) -> Any:
        """Return the cosine to the own identity with margin: (N,)."""
        raise NotImplementedError

    def others(self, cosines: Any, samples: Samples, state: tuple, *, operators: Any) -> Any:
        """Return the cosines to all identities as the loss weighs them: (N, C) -> (N, C); the own one does not count."""
        return cosines

    def penalty(self, samples: Samples, *, operators: Any) -> Any:
        """Return what is added to the loss of each sample, (N,), or None."""
        return None


def angle_of(cosine: Any, *, operators: Any) -> Any:
    """Return the angle in radians of a cosine, whose slope stays finite: any shape."""
    return operators.arccos(operators.clip(cosine, -COSINE_LIMIT, COSINE_LIMIT))


def check_order(margin: MarginLoss, low: str, high: str) -> None:
    """Raise SettingError where one setting of a margin loss is not below another."""
    first, second = getattr(margin, low), getattr(margin, high)
    if not first < second:
        raise SettingError(f"{low}={first:g} {high}={second:g}: expected the first below the second")
