"""Heartbeats of a process that MXNet may block: a thread reports to the member that started the process."""

import functools
import json
import os
import threading

STATUS = "VARGFACENET_STATUS"  # environment variable: number of the open file to write to
HEARTBEAT_SECONDS = 0.5  # between two heartbeats
LOST = 3  # exit status of a process whose member is gone


class Heartbeat:
    """Report what this process is doing to the member that started it, repeatedly, until the process ends.

    Without a member it reports nothing. When the member is gone it ends the process at once, even inside a blocked call.
    """

    def __init__(self) -> None:
        self._state, self._changed = ("starting", False), threading.Event()
        descriptor = os.environ.get(STATUS)
        if descriptor is not None:
            threading.Thread(target=self._write, args=(int(descriptor),), daemon=True).start()

    def report(self, activity: str, *, waiting: bool) -> None:
        """State what the process is doing, and whether it is waiting for other workers."""
        self._state = (activity, waiting)
        self._changed.set()

    def _write(self, descriptor: int) -> None:
        while True:
            self._changed.clear()
            try:
                os.write(descriptor, json.dumps(self._state).encode() + b"\n")
            except OSError:
                os._exit(LOST)
            self._changed.wait(HEARTBEAT_SECONDS)


@functools.lru_cache(maxsize=1)
def start_heartbeat() -> Heartbeat:
    """Start the heartbeat of this process; a second call returns the same `Heartbeat`."""
    return Heartbeat()
