"""Run folders side by side: settings that differ, updates, scores and losses."""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vargfacenet.errors import DataError, SettingError
from vargfacenet.formats.files import read_json
from vargfacenet.train.config import read_config
from vargfacenet.train.curves import measures_of
from vargfacenet.train.generation_folder import CONFIG, DATA, Generation, best_generation, present_facts
from vargfacenet.train.run_log import FILE, read_log
from vargfacenet.train.scores import best_update, read_scores
from vargfacenet.train.training_state import TrainingStates

ABSENT = "-"  # the value of a setting that a run does not have
_FIRST = "generation-1"

log = logging.getLogger(__name__)


class RunSummary(NamedTuple):
    """A run folder.

    Attributes
    ----------
    path
        The folder.
    settings
        Its settings, with options as ``loss_options.scale``; and ``data.images``, ``data.identities``.
    generations
        The generations that were started.
    updates, all_updates
        Updates that the log or the newest training state has, and those of the whole run.
    best
        ``generation``, ``update`` and ``accuracy`` by verification set, of the checkpoint ``best``; None where nothing was
        verified.
    last
        Losses, cosine and accuracy of the last line of the log.
    images_per_second
        Mean over the log; None for an empty log.
    """

    path: pathlib.Path
    settings: dict[str, Any]
    generations: list[Generation]
    updates: int
    all_updates: int
    best: dict[str, Any] | None
    last: dict[str, float]
    images_per_second: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = self._asdict()
        return {**found, "path": str(self.path), "generations": len(self.generations)}


def find_runs(folders: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
    """Return the run folders among folders and below them, in order, each once; a run is not searched for others.

    DataError for a folder that does not exist, or where there are no runs at all.
    """
    given = [pathlib.Path(folder) for folder in folders]
    found: dict[pathlib.Path, None] = {}
    seen = set()  # links may lead back
    for folder in given:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: expected run folders, or a folder of them such as runs")
        for path, inside, _ in os.walk(folder, followlinks=True):
            inside.sort()
            real = os.path.realpath(path)
            if real in seen:
                inside.clear()
                continue
            seen.add(real)
            if _is_run(pathlib.Path(path)):
                found[pathlib.Path(path)] = None
                inside.clear()
    if not found:
        raise DataError(f"no runs in {', '.join(map(str, given))}: a run folder holds {CONFIG} and {FILE}")
    return list(found)


def read_run(path: str | os.PathLike) -> RunSummary:
    """Read a run folder, also that of a run that is going on; DataError or SettingError where a file is damaged."""
    path = pathlib.Path(path)
    folders = [path]
    if (path / _FIRST / CONFIG).is_file():
        numbers = sorted(int(one.name.rpartition("-")[2]) for one in path.glob("generation-[0-9]*"))
        folders = [path / f"generation-{number}" for number in numbers]
    folders = [folder for folder in folders if (folder / CONFIG).is_file()]
    settings = _settings(folders[0] / CONFIG)
    facts = present_facts(read_json(folders[0] / DATA)) if (folders[0] / DATA).is_file() else {}
    settings.update({f"data.{name}": facts[name] for name in ("images", "identities") if name in facts})
    logs = [read_log(folder) if (folder / FILE).is_file() else [] for folder in folders]
    generations = []
    for folder in folders:
        scores = read_scores(folder)
        generations.append(Generation(folder, scores, best_update(scores)))
    lines = [line for log_lines in logs for line in log_lines]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return RunSummary(
        path=path,
        settings=settings,
        generations=generations,
        updates=sum(_updates_of(folder, log_lines) for folder, log_lines in zip(folders, logs)),
        all_updates=int(settings["max_updates"]) * int(settings.get("generations", 1)),
        best=_best(generations),
        last={name: lines[-1][name] for name in measures_of(lines[-1])} if lines else {},
        images_per_second=sum(speeds) / len(speeds) if speeds else None,
    )


def _updates_of(folder: pathlib.Path, log_lines: list[dict[str, Any]]) -> int:
    """Return the updates of a generation; a run that was stopped has more than its log, which has every tenth or so."""
    logged = log_lines[-1]["update"] if log_lines else 0
    return max([logged, *TrainingStates(folder).updates()])


def read_runs(paths: Iterable[pathlib.Path]) -> list[RunSummary]:
    """Read run folders; those that are damaged are logged and left out, DataError where none is left."""
    runs, faults = [], []
    for path in paths:
        try:
            runs.append(read_run(path))
        except (DataError, SettingError, KeyError, TypeError, ValueError, AttributeError) as error:
            faults.append(f"{path} is left out: {error if isinstance(error, (DataError, SettingError)) else 'damaged'}")
    if not runs:
        raise DataError("; ".join(faults))
    for fault in faults:
        log.warning("%s", fault)
    return runs


def differing_settings(runs: Iterable[RunSummary]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ: the value of each run by name; `ABSENT` where a run does not have it."""
    settings = [run.settings for run in runs]
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: [one.get(name, ABSENT) for one in settings] for name in names}
    return {
        name: found for name, found in values.items() if any(json.dumps(one) != json.dumps(found[0]) for one in found)
    }


def _is_run(folder: pathlib.Path) -> bool:
    return any((one / CONFIG).is_file() and (one / FILE).is_file() for one in (folder, folder / _FIRST))


def _best(generations: list[Generation]) -> dict[str, Any] | None:
    best = best_generation(generations)
    if best is None or best.best_update is None:
        return None
    scores = best.verifications[best.best_update]
    return {
        "generation": generations.index(best) + 1,
        "update": best.best_update,
        "accuracy": {name: score["accuracy"] for name, score in scores.items()},
    }


def _settings(path: pathlib.Path) -> dict[str, Any]:
    """Return the settings of a run, under present names where this installation knows all that they name."""
    try:
        values = read_config(path).to_dict()
    except SettingError:  # such as a network of a package that is not installed
        values = read_json(path)
        if not isinstance(values, dict):
            raise
    return _flat(values)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found
