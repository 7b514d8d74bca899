"""A run asked to stop by a signal: the first time it finishes its update and saves, the second time it ends at once."""

import contextlib
import logging
import os
import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


class Stopping:
    """Listens for SIGINT and SIGTERM while it is entered (``with stopping:``), from the main thread.

    A thread reads what the signals leave, as Python's own handlers run only when MXNet has given control back: a second
    signal ends the process in the middle of whatever it does, with status 128 + its number.

    Attributes
    ----------
    signal : int or None
        The number of the first one.
    """

    def __init__(self):
        self.signal = None

    def __enter__(self):
        ours, its = os.pipe()
        os.set_blocking(its, False)
        self._before = {number: signal.signal(number, _nothing) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(its, warn_on_full_buffer=False)
        self._write_end, self._listener = its, threading.Thread(target=self._listen, args=(ours,), daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_):
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write_end)
        self._listener.join()

    def _listen(self, descriptor):
        with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)) as received:
            for number in iter(lambda: received.read(1), b""):
                if number[0] not in SIGNALS:
                    continue
                if self.signal is not None:
                    os._exit(128 + number[0])
                self.signal = number[0]
                log.info("%s: stopping after this update; a second one stops at once", signal.Signals(number[0]).name)


class NeverStopping:
    """As `Stopping` for whoever handles signals otherwise."""

    signal = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def _nothing(number, frame):
    """Python tells `set_wakeup_fd` of signals that have a handler only."""
