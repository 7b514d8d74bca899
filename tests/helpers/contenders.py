"""Contenders of a contest in the process of a test, for tests whose claim is not that each has a process of its own."""

import os
import runpy
import time
from unittest import mock

from vargfacenet.bench.rounds import CONTENDERS, Outcome
from vargfacenet.bench.worker import peak_memory


def take_turns_here(contenders, *, rounds, progress):
    """Stand in for `take_turns`: the contenders do their work here, one after another, and every turn is counted."""
    outcomes = []
    for contender in contenders:
        environment = {**os.environ, **contender.environment}
        with mock.patch.dict(os.environ, {key: value for key, value in environment.items() if value is not None}):
            turn = runpy.run_path(str(CONTENDERS / contender.file))["prepare"](**contender.options)
            turns = []
            for _ in range(rounds):
                begin = time.perf_counter()
                found = turn()
                turns.append({**found, "seconds": time.perf_counter() - begin, "peak_bytes": peak_memory()})
                progress()
        outcomes.append(Outcome(contender.name, turns, None))
    return outcomes
