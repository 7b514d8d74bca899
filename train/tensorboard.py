"""The callback ``tensorboard``: what the log says, as event files that TensorBoard shows.

It is turned on by the setting ``callbacks=tensorboard``, and needs the package tensorboardX, of the extra ``tensorboard``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from vargfacenet.train.callback import Callback, TrainingContext, UpdateResult, register_callback
from vargfacenet.train.run_log import FILE
from vargfacenet.train.scores import SetScores, read_scores

FOLDER = "tensorboard"

log = logging.getLogger(__name__)


@register_callback("tensorboard")
class TensorBoard(Callback):
    """Writes each line of the log, and verification scores, into the folder ``tensorboard`` of a generation.

    Tags are ``train/NAME`` for what the log holds, and ``SET/accuracy`` and the like for the scores of a verification
    set. The step is the update. A resumed run replaces what was written of the updates that it makes again. Where the
    package is missing, a warning says so and nothing is written.
    """

    def __init__(self, context: TrainingContext) -> None:
        self._out, self._log_every, self._last = context.out, context.config.log_every, context.config.max_updates
        self._writer: Any = None
        self._first = 0  # the first update of this process
        self._read = 0  # bytes of the log
        self._scored = -1  # the last update whose scores are written

    def after_update(self, result: UpdateResult) -> None:
        if not self._first:
            self._first = result.update
            self._scored = result.update - 1 if result.update > 1 else -1
            self._writer = _writer(self._out / FOLDER, result.update)
        if self._writer is not None and (result.update % self._log_every == 0 or result.update == self._last):
            self._write()

    def close(self) -> None:
        if self._writer is not None:
            self._write()  # the last scores come after the last line of the log
            self._writer.close()
            self._writer = None

    def _write(self) -> None:
        for line in self._new_lines():
            for name, value in line.items():
                if name != "update":
                    self._writer.add_scalar(f"train/{name}", value, line["update"])
        for update, sets in self._new_scores():
            for name, score in sets.items():
                self._writer.add_scalar(f"{name}/accuracy", score["accuracy"], update)
                tar = score.get("tar", {}).get("0.001")
                if tar is not None:
                    self._writer.add_scalar(f"{name}/TAR at FAR 0.001", tar, update)
        self._writer.flush()

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        """Give the lines of the log that are of this process and not written yet."""
        with open(self._out / FILE, "rb") as file:
            file.seek(self._read)
            for line in file:
                self._read += len(line)
                values = json.loads(line)
                if values["update"] >= self._first:
                    yield values

    def _new_scores(self) -> Iterator[tuple[int, SetScores]]:
        """Give the scores that are not written yet, each with its update."""
        for update, sets in sorted(read_scores(self._out).items()):
            if update > self._scored:
                self._scored = update
                yield update, sets


def _writer(folder: os.PathLike, update: int) -> Any:
    """Return a writer of event files that replace those from an update on, or None where the package is missing."""
    with contextlib.suppress(ImportError):
        from tensorboardX import SummaryWriter  # an optional package

        return SummaryWriter(str(folder), purge_step=update if update > 1 else None)
    log.warning("callbacks=tensorboard writes nothing: pip install 'vargfacenet[tensorboard]' (package tensorboardX)")
    return None
