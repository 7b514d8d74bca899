"""Seconds and memory of a classifier's update by number of identities, measured, as JSON and as a plot."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Union

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet.bench.measure import ClassifierTask, measure_classifier
from vargfacenet.environment import processor_name
from vargfacenet.formats.files import atomic_path
from vargfacenet.train import memory
from vargfacenet.train.plan import WORKSPACE

KINDS = (("dense", 1.0), ("sharded", 1.0), ("sharded", 0.1))  # head, sample rate
_GIB = 2**30


def planned_bytes(task: ClassifierTask) -> int:
    """Return the bytes that `measure_classifier` of a task is expected to find."""
    sizes = (task.identities, task.embedding_size, task.batch_size)
    if task.head == "dense":
        parts = memory.dense_classifier(*sizes)
        return sum(parts) + parts.weights + WORKSPACE  # the Module keeps another copy of the weights
    return sum(memory.sharded_classifier(*sizes, shards=1, sample_rate=task.sample_rate)) + WORKSPACE


def measure_growth(
    identities: Sequence[int],
    *,
    limit: int,
    kinds: Sequence[tuple[str, float]] = KINDS,
    embedding_size: int = 512,
    batch_size: int = 64,
    updates: int = 5,
    progress: Optional[Callable[[dict[str, Any]], object]] = None,
) -> dict[str, Any]:
    """Measure the dense, sharded and sampled classifier, each in a process of its own on one CPU device.

    Parameters
    ----------
    identities
        Sizes of the classifier.
    limit
        Bytes; a run that is planned to take more is skipped.
    kinds
        Heads and their sample rates.
    progress
        Called with each run when it is finished.

    Returns
    -------
    dict
        ``processor``, ``threads``, ``limit``, and ``runs``: results of `measure_classifier` with ``planned`` bytes;
        skipped runs have no ``seconds`` and ``bytes``.
    """
    runs = []
    for count in identities:
        for head, rate in kinds:
            task = ClassifierTask(head, count, rate, embedding_size, batch_size, updates)
            sizes = {"sample_rate": rate, "embedding_size": embedding_size, "batch_size": batch_size}
            run: dict[str, Any] = {"head": head, "identities": count, **sizes, "planned": planned_bytes(task)}
            if run["planned"] <= limit:
                run = {**run, **measure_classifier(task)}
            runs.append(run)
            if progress:
                progress(run)
    return {
        "processor": processor_name(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "limit": limit,
        "runs": runs,
    }


def draw_growth(report: Mapping[str, Any], path: Union[str, pathlib.Path]) -> None:
    """Draw memory and seconds of a `measure_growth` report over identities into a PNG file.

    Both axes are logarithmic. Hollow marks are the planned memory of skipped runs.
    """
    # pyplot would look for a display.
    figure = Figure(figsize=(9, 3.6), constrained_layout=True)
    space, time = figure.subplots(1, 2)
    lines: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for run in report["runs"]:
        lines.setdefault((run["head"], run["sample_rate"]), []).append(run)
    for (head, rate), runs in lines.items():
        label = head if rate >= 1 else f"sampled, {rate:g} of the identities"
        done = [run for run in runs if "bytes" in run]
        counts = [run["identities"] for run in done]
        (line,) = space.plot(counts, [run["bytes"] / _GIB for run in done], marker="o", label=label)
        time.plot(counts, [run["seconds"] for run in done], marker="o", color=line.get_color(), label=label)
        refused = [run for run in runs if "bytes" not in run]
        space.plot(
            [run["identities"] for run in refused],
            [run["planned"] / _GIB for run in refused],
            linestyle="",
            marker="o",
            markerfacecolor="none",
            color=line.get_color(),
        )
    space.axhline(report["limit"] / _GIB, color="grey", linewidth=0.5, linestyle=":")
    space.set_ylabel("peak memory, GiB")
    time.set_ylabel("seconds an update")
    for axes in (space, time):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("identities")
        axes.legend(fontsize="small")
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
