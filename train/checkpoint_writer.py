"""The callback that saves training states and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError
from vargfacenet.train.callback import Callback, UpdateResult
from vargfacenet.train.callbacks import Every, Verifier
from vargfacenet.train.engine import TrainerProtocol
from vargfacenet.train.generation_folder import GenerationFolder
from vargfacenet.train.scores import best_update


class CheckpointWriter(Callback):
    """Saves the training state and the checkpoints ``latest`` and ``best`` when they are due.

    It also saves where a verification was the best so far, so it must come after the `Verifier`.

    Parameters
    ----------
    embedding
        The plain graph.
    trainer
        Whose state to save.
    verifier
        Whose scores are a part of the state.
    folder
        The generation's folder.
    facts
        The other facts of a state: JSON values.
    due
        When to save.
    keep
        States that stay, besides the best one's.

    Attributes
    ----------
    saved
        Update of the last save; None before the first.
    """

    def __init__(
        self,
        embedding: mx.sym.Symbol,
        trainer: TrainerProtocol,
        verifier: Verifier,
        folder: GenerationFolder,
        facts: Mapping[str, Any],
        *,
        due: Every,
        keep: int,
    ) -> None:
        self._embedding, self._trainer, self._verifier = embedding, trainer, verifier
        self._folder, self._facts, self._due, self._keep = folder, facts, due, keep
        self.saved: int | None = None

    def needs_parameters(self, update: int) -> bool:
        return self._due.includes(update)

    def after_update(self, result: UpdateResult) -> None:
        if self._due.includes(result.update) or best_update(self._verifier.scores) == result.update:
            self.save(result.update)

    def save(self, update: int) -> None:
        """Save after an update; CheckpointError where the state is not finite, and then the folder is unchanged."""
        arrays = self._trainer.state()
        for name, value in arrays.items():
            if not np.isfinite(value.asnumpy()).all():
                raise CheckpointError(f"update {update}: {name} holds NaN or infinity; try a smaller lr")
        self._folder.save(
            update, arrays, self._facts, embedding=self._embedding, scores=self._verifier.scores, keep=self._keep
        )
        self.saved = update
