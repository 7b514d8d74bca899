"""Serves the turns of one contender in a process of its own: ``python worker.py CONTENDER.py``.

A contender is a file with ``prepare(**options)``, which gets everything ready and gives ``turn()``; that does one
turn's work, waits for its end, and gives a dict with ``items``, how much it did, and whatever else it found out.
Standard library only, so that a contender of any environment is served alike.

The first line on standard input is the options, a JSON object; each line after it is a turn. Every line on standard
output is a JSON object: first, when all is ready, an empty one; then, turn by turn, what `turn` gave with the seconds it
took and the process's peak of memory in bytes.
"""

import importlib.util
import json
import os
import runpy
import sys
import time


def main():
    """Serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not stand among the answers
    if importlib.util.find_spec("vargfacenet"):
        importlib.import_module("vargfacenet")  # with which contenders can import MXNet on current NumPy
    turn = runpy.run_path(sys.argv[1])["prepare"](**json.loads(sys.stdin.readline()))
    print("{}", file=answers)
    for _ in sys.stdin:
        begin = time.perf_counter()
        found = turn()
        seconds = time.perf_counter() - begin
        print(json.dumps({**found, "seconds": seconds, "peak_bytes": peak_memory()}), file=answers)


def peak_memory():
    """The largest memory this process has had, in bytes."""
    # getrusage would count what the process that started this one had.
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
