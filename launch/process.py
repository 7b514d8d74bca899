"""A process of a group: start it, read its output and heartbeat, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TextIO

from vargfacenet.launch.heartbeat import STATUS

GRACE = 5.0  # seconds from asking a process to end to killing it
ERROR = ": error: "  # in the line that a failing command of this package prints

_printing = threading.Lock()


class Process:
    """A command whose lines of output are printed, each with a prefix.

    Parameters
    ----------
    label
        What it is, for messages.
    command
        Its command line.
    environment
        Variables that it has in addition to those of this process.
    prefix
        Printed before each line.
    keep
        Receives each line of standard error; lines for which it returns true are not printed.
    heartbeat
        Whether it sends heartbeats, see `vargfacenet.launch.heartbeat`.

    Attributes
    ----------
    state
        Its last reported activity, and whether it waits for other workers; None before the first report.
    heard
        When it last reported, or was started (`time.monotonic`).
    error
        The last line of standard error with `ERROR` in it, or an empty string.
    """

    state: list[object] | None
    heard: float
    error: str

    def __init__(
        self,
        label: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        prefix: str = "",
        keep: Callable[[str], bool] | None = None,
        heartbeat: bool = True,
    ) -> None:
        self.label, self.state, self.heard, self.error = label, None, time.monotonic(), ""
        self._prefix, self._keep = prefix, keep
        ours, its = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {}), **({STATUS: str(its)} if heartbeat else {})},
                pass_fds=[its] if heartbeat else [],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that Ctrl-C in the terminal does not reach it
            )
        finally:
            os.close(its)
        assert self._process.stdin is not None  # a pipe
        self._input = self._process.stdin
        self._readers = [
            threading.Thread(target=self._pass_on, args=(self._process.stdout, sys.stdout), daemon=True),
            threading.Thread(target=self._pass_on, args=(self._process.stderr, sys.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    @property
    def status(self) -> int | None:
        """Exit status, negative where a signal ended the process; None while it runs."""
        return self._process.poll()

    def fate(self) -> str:
        """Describe how the process ended."""
        for reader in self._readers:  # for its last line of error
            reader.join(1.0)
        status = self.status or 0
        if status < 0:
            name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
            return f"{self.label} was killed ({name})"
        why = self.error.partition(ERROR)[2]
        return f"{self.label} {'stopped: ' + why if why else f'ended with status {status}'}"

    def tell(self, text: str) -> None:
        """Write to its standard input. A process that has ended raises nothing here: its status shows it."""
        with contextlib.suppress(OSError, ValueError):
            self._input.write(text.encode())
            self._input.flush()

    def signal(self, number: int) -> None:
        """Send a signal to the process and to those that it started."""
        if self.status is None:  # afterwards the number may belong to another process
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)

    def ask_to_end(self) -> None:
        """Ask the process, and those that it started, to end."""
        with contextlib.suppress(OSError):
            self._input.close()
        self.signal(signal.SIGTERM)

    def end(self, grace: float = GRACE) -> None:
        """End the process; kill it where it does not end within `grace` seconds of being asked."""
        self.ask_to_end()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
        for reader in self._readers:
            reader.join(1.0)

    def wait(self, seconds: float) -> bool:
        """Wait for its end, and return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status is not None

    def _pass_on(self, lines: IO[bytes], out: TextIO) -> None:
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if out is sys.stderr:
                if ERROR in text:
                    self.error = text
                if self._keep and self._keep(text):
                    continue
            with _printing, contextlib.suppress(OSError, ValueError):
                out.write(f"{self._prefix}{text}\n")
                out.flush()

    def _listen(self, descriptor: int) -> None:
        with open(descriptor, "rb") as lines, contextlib.suppress(ValueError):
            for line in lines:
                self.state = json.loads(line)
                self.heard = time.monotonic()
