"""Serves the turns of one contender in a process of its own: ``python worker.py CONTENDER.py``.

A contender is a file with ``prepare(**options)``, which prepares the work and returns ``turn()``. That does the work of
one turn, waits for its end, and returns a dict with ``items``, the amount of work, and other results. This file uses
the standard library alone, so that it serves contenders of any environment alike.

The first line on standard input has the options, a JSON object; each line after it asks for a turn. Every line on
standard output is a JSON object: first an empty one, when the work is prepared; then, turn by turn, the result of
``turn()`` with its seconds and the peak memory of the process in bytes.
"""

import importlib.util
import json
import os
import runpy
import sys
import time


def main() -> None:
    """Serve turns until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    if importlib.util.find_spec("vargfacenet"):
        importlib.import_module("vargfacenet")  # lets contenders import MXNet on current NumPy
    turn = runpy.run_path(sys.argv[1])["prepare"](**json.loads(sys.stdin.readline()))
    answers.write("{}\n")
    for _ in sys.stdin:
        begin = time.perf_counter()
        found = turn()
        seconds = time.perf_counter() - begin
        answers.write(json.dumps({**found, "seconds": seconds, "peak_bytes": peak_memory()}) + "\n")


def peak_memory() -> int:
    """Return the largest memory of this process so far, in bytes."""
    # getrusage would count the memory of the process that started this one.
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
