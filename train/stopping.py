"""Stop a run by a signal: the first one lets the update finish and saves, the second one ends the process at once."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


class NeverStopping:
    """The interface of `Stopping` for a process that handles signals in another way.

    Attributes
    ----------
    signal
        Number of the signal that asks the run to stop, or None.
    """

    signal: int | None = None

    def __enter__(self) -> NeverStopping:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Stopping(NeverStopping):
    """Listen for SIGINT and SIGTERM inside ``with stopping:``, which the main thread must enter.

    A thread reads the signals, because Python runs its own handlers only when MXNet has returned control. So a second
    signal ends the process in the middle of any call, with status 128 + its number.
    """

    def __init__(self) -> None:
        self.signal = None

    def __enter__(self) -> Stopping:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        self._handlers = {number: signal.signal(number, _nothing) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self._write_end = write_end
        self._listener = threading.Thread(target=self._listen, args=(read_end,), daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._write_end)
        self._listener.join()

    def _listen(self, descriptor: int) -> None:
        with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)) as received:
            for number in iter(lambda: received.read(1), b""):
                if number[0] not in SIGNALS:
                    continue
                if self.signal is not None:
                    os._exit(128 + number[0])
                self.signal = number[0]
                log.info("%s: stopping after this update; a second one stops at once", signal.Signals(number[0]).name)


def _nothing(number: int, frame: Any) -> None:
    """Do nothing: Python reports to `set_wakeup_fd` only signals that have a handler."""
