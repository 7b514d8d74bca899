"""Signs of life of a process that MXNet may block: a thread tells the member that started it what the process is at."""

import functools
import json
import os
import threading

STATUS = "VARGFACENET_STATUS"  # number of the open file to write to
BEAT = 0.5  # seconds between signs of life
LOST = 3  # exit status of a process whose member is gone


class Beats:
    """Tells the member that started this process what it is at, again and again, until the process ends.

    Where nobody did, it tells nobody. Where the member is gone it ends the process at once, whatever that is blocked in.
    """

    def __init__(self):
        self._state, self._changed = ("starting", False), threading.Event()
        descriptor = os.environ.get(STATUS)
        if descriptor is not None:
            threading.Thread(target=self._write, args=(int(descriptor),), daemon=True).start()

    def report(self, what, *, waiting):
        """Says what the process is at (str), and whether it can go on only with the others (bool)."""
        self._state = (what, waiting)
        self._changed.set()

    def _write(self, descriptor):
        while True:
            self._changed.clear()
            try:
                os.write(descriptor, json.dumps(self._state).encode() + b"\n")
            except OSError:
                os._exit(LOST)
            self._changed.wait(BEAT)


@functools.lru_cache(maxsize=1)
def begin() -> Beats:
    """Begin to tell the member that started this process, if one did; a second call returns the same `Beats`."""
    return Beats()
