"""How an update of the classifier grows with the identities: seconds and memory, measured, as figures and as an image."""

import json
import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vargfacenet.bench.measure import measure_classifier
from vargfacenet.environment import processor_name
from vargfacenet.formats.files import atomic_path, write_text
from vargfacenet.train import memory
from vargfacenet.train.plan import WORKSPACE

KINDS = (("dense", 1.0), ("sharded", 1.0), ("sharded", 0.1))  # head, sample rate
_GIB = 2**30


def planned_bytes(head, identities, *, sample_rate=1.0, embedding_size=512, batch_size=64):
    """What `measure_classifier` of the same arguments is expected to take (int)."""
    if head == "dense":
        parts = memory.dense_classifier(identities, embedding_size, batch_size)
        return sum(parts) + parts.weights + WORKSPACE  # the Module keeps another copy of the weights
    parts = memory.sharded_classifier(identities, embedding_size, batch_size, shards=1, sample_rate=sample_rate)
    return sum(parts) + WORKSPACE


def measure_growth(identities, *, limit, kinds=KINDS, embedding_size=512, batch_size=64, updates=5, progress=None):
    """Measures the classifier in the graph, in shards, and sampled, each in a process of its own on one CPU device.

    Parameters
    ----------
    identities : sequence of int
        Sizes of the classifier.
    limit : int
        Bytes; what is planned to take more is not run.
    kinds : sequence of (str, float)
        Heads and their sample rates.
    embedding_size, batch_size, updates : int
        As of `vargfacenet.bench.measure.measure_classifier`.
    progress : callable, optional
        Called with each run when it is known.

    Returns
    -------
    dict
        ``processor``, ``threads``, ``limit``, and ``runs``: what `measure_classifier` gave, with ``planned`` bytes; where
        that is over the limit, without ``seconds`` and ``bytes``.
    """
    runs = []
    for count in identities:
        for head, rate in kinds:
            sizes = {"sample_rate": rate, "embedding_size": embedding_size, "batch_size": batch_size}
            run = {"head": head, "identities": count, **sizes, "planned": planned_bytes(head, count, **sizes)}
            if run["planned"] <= limit:
                run = {**run, **measure_classifier(head, count, updates=updates, **sizes)}
            runs.append(run)
            if progress:
                progress(run)
    return {
        "processor": processor_name(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "limit": limit,
        "runs": runs,
    }


def draw_growth(report, path):
    """Draws memory and seconds over identities, both axes logarithmic, what was planned and not run as hollow marks.

    Parameters
    ----------
    report : dict
        What `measure_growth` gave.
    path : path
        A .png file.
    """
    # Not pyplot, which looks for a display.

    figure = Figure(figsize=(9, 3.6), constrained_layout=True)
    space, time = figure.subplots(1, 2)
    lines = {}
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


def write_growth(report, path):
    """Writes a report as JSON."""
    write_text(path, json.dumps(report, indent=1) + "\n")
