"""A process of a group: started, listened to, ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from vargfacenet.launch.beats import STATUS

GRACE = 5.0  # seconds from asking a process to end to ending it
ERROR = ": error: "  # what the line of a command that fails has in it

_printing = threading.Lock()


class Process:
    """A command whose lines of output are passed on, each with a prefix.

    Parameters
    ----------
    label : str
        What it is, for messages.
    command : list of str
        Its command line.
    environment : dict of str to str, optional
        Variables that it has besides this process's.
    prefix : str
        Put before each line.
    keep : callable, optional
        Told each line (str) of standard error; those for which it gives true are not passed on.
    beats : bool
        Whether it tells what it is at, see `vargfacenet.launch.beats`.

    Attributes
    ----------
    state : list or None
        What it said last that it is at (str), and whether it waits for others (bool).
    heard : float
        When it said so, or was started (`time.monotonic`).
    error : str
        The last line of standard error in which it said why it failed; empty where none.
    """

    def __init__(self, label, command, *, environment=None, prefix="", keep=None, beats=True):
        self.label, self.state, self.heard, self.error = label, None, time.monotonic(), ""
        self._prefix, self._keep = prefix, keep
        ours, its = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {}), **({STATUS: str(its)} if beats else {})},
                pass_fds=[its] if beats else [],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # the terminal's Ctrl-C is for whoever started it
            )
        finally:
            os.close(its)
        self._readers = [
            threading.Thread(target=self._pass_on, args=(self._process.stdout, sys.stdout), daemon=True),
            threading.Thread(target=self._pass_on, args=(self._process.stderr, sys.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    @property
    def status(self):
        """Its exit status (int), negative where a signal ended it; None while it runs."""
        return self._process.poll()

    def fate(self):
        """How it ended, in words."""
        for reader in self._readers:  # so that its last words are known
            reader.join(1.0)
        status = self.status
        if status < 0:
            name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
            return f"{self.label} was killed ({name})"
        why = self.error.partition(ERROR)[2]
        return f"{self.label} {'stopped: ' + why if why else f'ended with status {status}'}"

    def tell(self, text):
        """Writes to its standard input (str); one that is gone is left to whoever watches its status."""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()

    def signal(self, number):
        """Sends it, and what it started, a signal (int)."""
        if self.status is None:  # for afterwards the number may be another's
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, number)

    def ask_to_end(self):
        """Asks it, and what it started, to end."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self.signal(signal.SIGTERM)

    def end(self, grace=GRACE):
        """Ends it: at once where it does not end within `grace` seconds of being asked."""
        self.ask_to_end()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
        for reader in self._readers:
            reader.join(1.0)

    def wait(self, seconds):
        """Waits for its end; whether it came (bool)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status is not None

    def _pass_on(self, lines, out):
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

    def _listen(self, descriptor):
        with open(descriptor, "rb") as lines, contextlib.suppress(ValueError):
            for line in lines:
                self.state = json.loads(line)
                self.heard = time.monotonic()
