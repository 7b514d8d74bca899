"""Contenders in processes of their own, taking turns, so that other work on the machine affects all alike."""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, NamedTuple, Optional

from vargfacenet.errors import SetupError
from vargfacenet.free_memory import free_memory

CONTENDERS = pathlib.Path(__file__).parent / "contenders"
WORKER = pathlib.Path(__file__).parent / "worker.py"
_SPARE = 1.5  # times the largest contender so far, that must be free for another to begin beside those that wait


class Contender(NamedTuple):
    """A participant of a contest.

    ``file`` in the folder `contenders` does the work; ``options`` are those of its ``prepare``. ``environment`` holds
    variables to set, or to unset where None, and ``python`` is the interpreter that runs it.
    """

    name: str
    file: str
    options: Mapping[str, Any] = {}
    environment: Mapping[str, Optional[str]] = {}
    python: str = sys.executable


class Outcome(NamedTuple):
    """The result of a contender: what each counted turn returned, and the error that stopped it, if any."""

    name: str
    turns: list[dict[str, Any]]
    failure: Optional[str]


def take_turns(
    contenders: Sequence[Contender], *, rounds: int, progress: Optional[Callable[[], object]] = None
) -> list[Outcome]:
    """Let contenders take turns, `rounds` times, and return their outcomes in order.

    The first turn of each is not counted: it allocates memory and chooses layouts. A contender that fails takes no more
    turns. `progress` is called after each turn. Where memory is short, contenders that wait are ended and begin again.
    """
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_Process(contender)) for contender in contenders]
        for number in range(rounds + 1):
            for process in processes:
                if free_memory() < _SPARE * max(each.peak for each in processes):
                    for other in processes:
                        if other is not process:
                            other.end()
                process.turn(counted=number > 0)
                if progress:
                    progress()
        return [Outcome(each.contender.name, each.turns, each.failure) for each in processes]


def rate(outcome: Outcome) -> float:
    """Return the median of items per second over an outcome's turns."""
    return statistics.median(turn["items"] / turn["seconds"] for turn in outcome.turns)


def peak_memory(outcome: Outcome) -> float:
    """Return the largest resident memory of an outcome's process, in MiB."""
    return max(turn["peak_bytes"] for turn in outcome.turns) / 2**20


class _Process:
    """A contender's process; it starts in the first turn and sleeps between turns."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.turns: list[dict[str, Any]] = []
        self.failure: Optional[str] = None
        self.peak = 0  # bytes, of the turns so far
        self._process: Optional[subprocess.Popen[str]] = None
        self._errors: Optional[IO[str]] = None

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process and give its memory back; the next turn starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process and self._process.stdin, self._process and self._process.stdout, self._errors):
            if stream:
                stream.close()
        self._process = self._errors = None

    def turn(self, *, counted: bool) -> None:
        """Take a turn; in a process that begins again, one before it that is not counted."""
        if self.failure:
            return
        try:
            if self._process is None:
                self._process = self._start()
                self._answer(self._process)
                if counted:
                    self._ask(self._process)
                    self._answer(self._process)
            self._ask(self._process)
            found = self._answer(self._process)
        except (SetupError, OSError) as error:
            self.failure = str(error)
            return
        self.peak = max(self.peak, found["peak_bytes"])
        if counted:
            self.turns.append(found)

    def _start(self) -> "subprocess.Popen[str]":
        contender = self.contender
        environment = {**os.environ, **contender.environment}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed at exit
        process = subprocess.Popen(
            [contender.python, "-I", str(WORKER), str(CONTENDERS / contender.file)],
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._ask(process, json.dumps(contender.options))
        return process

    def _ask(self, process: "subprocess.Popen[str]", line: str = "") -> None:
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        assert self._errors is not None
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        status = process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        ended = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        raise SetupError(f"{ended}: {lines[-1] if lines else 'no message'}")
