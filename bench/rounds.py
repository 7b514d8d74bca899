"""Contenders in processes of their own, taking turns, so that what else the machine does touches all alike."""

import collections
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

from vargfacenet.errors import SetupError

CONTENDERS = pathlib.Path(__file__).parent / "contenders"
WORKER = pathlib.Path(__file__).parent / "worker.py"

Contender = collections.namedtuple(
    "Contender", "name file options environment python", defaults=({}, {}, sys.executable)
)
Contender.__doc__ = """Who takes part: a name for tables, the file in `contenders` that does it, the options for its
``prepare``, environment variables to set (None: to unset), and the Python to run it in.
"""

Outcome = collections.namedtuple("Outcome", "name turns failure")
Outcome.__doc__ = """What came of a contender: its name, what each counted turn gave (list of dict), and why it failed
(None where it did not), which for some is the finding.
"""


def take_turns(contenders, *, rounds, progress=None):
    """Lets contenders take turns, round after round.

    Each turns once uncounted, when memory is taken and layouts are chosen. One that fails is left out from there on.

    Parameters
    ----------
    contenders : sequence of Contender
    rounds : int
        Counted turns of each.
    progress : callable, optional
        Called after each turn.

    Returns
    -------
    list of Outcome
        In the order given.
    """
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_Process(contender)) for contender in contenders]
        for number in range(rounds + 1):
            for process in processes:
                process.turn(counted=number > 0)
                if progress:
                    progress()
        return [Outcome(each.contender.name, each.turns, each.failure) for each in processes]


def rate(outcome):
    """Median of items a second over an outcome's turns (float)."""
    return statistics.median(turn["items"] / turn["seconds"] for turn in outcome.turns)


def peak_memory(outcome):
    """Largest resident memory of an outcome's process, in MiB (float)."""
    return max(turn["peak_bytes"] for turn in outcome.turns) / 2**20


class _Process:
    """A contender's process; it starts in the first turn and sleeps between turns."""

    def __init__(self, contender):
        self.contender = contender
        self.turns = []
        self.failure = None
        self._process = self._said = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._said.close()

    def turn(self, *, counted):
        if self.failure:
            return
        try:
            if self._process is None:
                self._start()
                self._answer()
            print(file=self._process.stdin, flush=True)
            found = self._answer()
        except (SetupError, OSError) as error:
            self.failure = str(error)
            return
        if counted:
            self.turns.append(found)

    def _start(self):
        contender = self.contender
        environment = {**os.environ, **contender.environment}
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed at exit
        self._process = subprocess.Popen(
            [contender.python, "-I", str(WORKER), str(CONTENDERS / contender.file)],
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        print(json.dumps(contender.options), file=self._process.stdin, flush=True)

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        said = [line.strip() for line in self._said if line.strip()]
        ended = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise SetupError(f"{ended}: {said[-1] if said else 'no word'}")
