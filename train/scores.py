"""Verification scores of a run: by update, by name of the verification set, the fields of a `Verification`."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from vargfacenet.formats.files import read_json, write_text

FILE = "verification.json"

SetScores = dict[str, dict[str, Any]]  # by name of a verification set: the fields of `vargfacenet.eval.Verification`
Scores = dict[int, SetScores]  # by update; 0 is the network that a generation begins with


def read_scores(folder: str | os.PathLike) -> Scores:
    """Read the scores in a folder; empty where there are none."""
    path = pathlib.Path(folder) / FILE
    return {int(update): scores for update, scores in read_json(path, limit=1 << 30).items()} if path.is_file() else {}


def write_scores(folder: str | os.PathLike, scores: Scores) -> None:
    """Write the scores into a folder, as ``verification.json``."""
    write_text(pathlib.Path(folder) / FILE, json.dumps(scores, indent=1) + "\n")


def mean_accuracy(scores: SetScores) -> float:
    """Return the mean accuracy over verification sets."""
    return sum(score["accuracy"] for score in scores.values()) / len(scores)


def best_update(scores: Scores) -> int | None:
    """Return the update with the best mean accuracy, the first of equals, leaving out the start; None without any."""
    trained = [update for update in scores if update > 0]
    return max(trained, key=lambda update: (mean_accuracy(scores[update]), -update)) if trained else None
