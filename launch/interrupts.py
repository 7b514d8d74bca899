"""Signals to whoever starts workers: the first asks them to stop when they have saved, the second stops them at once."""

import signal

from vargfacenet.errors import ClusterError

STOPPED = 128 + signal.SIGTERM  # status of a worker that was asked to stop, and saved


class Interrupts:
    """SIGINT and SIGTERM, where `listen` was called.

    Attributes
    ----------
    number : int or None
        The first one's; a second raises a ClusterError in the main thread.
    """

    def __init__(self):
        self.number = None

    def listen(self):
        """Takes both signals from now on; gives itself."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)
        return self

    def _hear(self, number, frame):
        if self.number is not None:
            raise ClusterError(f"stopped at once by a second signal, {signal.Signals(number).name}")
        self.number = number
