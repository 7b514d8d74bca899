"""Measurements of speed, next to rivals, in rounds in which all take turns."""

from vargfacenet.bench.contests import (
    deployed,
    embedding,
    feeding,
    pairing,
    pooling,
    profile,
    scaling,
    starting,
    training,
    verifying,
    waiting,
)
from vargfacenet.bench.report import contest_report, draw, machine, matrix_share, operator_table, table
from vargfacenet.bench.rivals import rival_python
from vargfacenet.bench.rounds import take_turns

__all__ = [
    "contest_report",
    "deployed",
    "draw",
    "embedding",
    "feeding",
    "machine",
    "matrix_share",
    "operator_table",
    "pairing",
    "pooling",
    "profile",
    "rival_python",
    "scaling",
    "starting",
    "table",
    "take_turns",
    "training",
    "verifying",
    "waiting",
]
