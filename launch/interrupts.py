"""Signals to a process that starts workers: the first asks them to save and stop, the second stops them at once."""

from __future__ import annotations

import signal
import types

from vargfacenet.errors import ClusterError

STOPPED = 128 + signal.SIGTERM  # status of a worker that was asked to stop, and saved


class Interrupts:
    """SIGINT and SIGTERM, once `listen` has been called.

    `number` is that of the first signal, None before. A second signal raises a ClusterError in the main thread.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> Interrupts:
        """Handle both signals from now on, and return this object."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        if self.number is not None:
            raise ClusterError(f"stopped at once by a second signal, {signal.Signals(number).name}")
        self.number = number
