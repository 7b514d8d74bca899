"""The time of an update by MXNet's own profiler: microseconds of each operator.

MXNet must run operators one by one for it (MXNET_EXEC_BULK_EXEC_TRAIN=0), which costs a few per cent of speed.
"""

import json
import pathlib
import runpy
import tempfile
from collections.abc import Callable
from typing import Any

import mxnet as mx


def prepare(*, updates: int, **work: Any) -> Callable[[], dict[str, Any]]:
    """Prepare training with the options of ``train.py``."""
    train = runpy.run_path(str(pathlib.Path(__file__).with_name("train.py")))["prepare"](updates=updates, **work)
    folder = tempfile.mkdtemp()
    mx.profiler.set_config(profile_symbolic=True, profile_imperative=True, aggregate_stats=True, filename=f"{folder}/p")

    def turn() -> dict[str, Any]:
        mx.profiler.set_state("run")
        found = train()
        mx.profiler.set_state("stop")
        operators = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"]["operator"]
        spent = {name: row["Total"] * 1000 / updates for name, row in operators.items() if isinstance(row, dict)}
        return {**found, "microseconds": spent}

    return turn
