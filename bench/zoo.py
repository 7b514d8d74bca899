"""Every network side by side: published accuracy against parameters, FLOPs, and speed measured here."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mxnet as mx

from vargfacenet.bench.published import SETS, ZOO, Published
from vargfacenet.bench.rounds import Contender, rate, take_turns
from vargfacenet.errors import SetupError
from vargfacenet.formats.files import atomic_path
from vargfacenet.options import unknown
from vargfacenet.symbols import get_symbol, list_networks
from vargfacenet.symbols.complexity import complexity

_SINGLE, _BATCHES, _UPDATES = 10, 4, 2  # a turn


class ZooRow(NamedTuple):
    """A network of the zoo.

    Attributes
    ----------
    published
        Its published accuracies.
    parameters, flops
        Counted here: trained parameters, and FLOPs by the rule of the 2019 challenge.
    milliseconds
        Of the embedding of one image at batch 1 on all cores, measured here; None where it was not.
    embedded, trained
        Images a second in batches on all cores, by embedding and by whole updates of training; None where not measured.
    """

    published: Published
    parameters: int
    flops: int
    milliseconds: float | None = None
    embedded: float | None = None
    trained: float | None = None


class Turns(NamedTuple):
    """Counted turns in which speed is measured, each network in a process of its own; 0 measures nothing.

    Attributes
    ----------
    single
        Of 10 images at batch 1.
    batches
        Of embedding 4 batches, and of 2 updates of training.
    batch_size
        Of these.
    """

    single: int = 0
    batches: int = 0
    batch_size: int = 32


NO_TURNS = Turns()


def zoo(
    networks: Sequence[str] = (), *, turns: Turns = NO_TURNS, progress: Callable[[], object] | None = None
) -> list[ZooRow]:
    """Return the networks of the zoo, by FLOPs.

    Parameters
    ----------
    networks
        Names of the networks to show; all by default.
    turns
        What is measured; nothing by default.
    progress
        Called after each network.

    Raises
    ------
    SettingError
        For an unknown network.
    SetupError
        Where a network cannot be run.
    """
    rows = []
    for entry in entries_of(networks):
        symbol = get_symbol(entry.network, **entry.options)
        row = ZooRow(entry, _trained(symbol), complexity(symbol).flops)
        if turns.single:
            milliseconds = 1000 / _rate(entry, "embed.py", turns.single, batch_size=1, batches=_SINGLE)
            row = row._replace(milliseconds=milliseconds)
        if turns.batches:
            embedded = _rate(entry, "embed.py", turns.batches, batch_size=turns.batch_size, batches=_BATCHES)
            trained = _rate(entry, "train.py", turns.batches, batch_size=turns.batch_size, updates=_UPDATES)
            row = row._replace(embedded=embedded, trained=trained)
        rows.append(row)
        if progress:
            progress()
    return sorted(rows, key=lambda row: row.flops)


def entries_of(networks: Sequence[str]) -> list[Published]:
    """Return the sizes of networks in the zoo, of all with no name given; SettingError for an unknown name."""
    for name in networks:
        if name not in list_networks():
            raise unknown("network", name, list_networks())
    return [entry for entry in ZOO if not networks or entry.network in networks]


def _trained(symbol: mx.sym.Symbol) -> int:
    """Return the number of trained parameters of a graph, without scales that are fixed at 1."""
    fixed = {
        node["name"]
        for node in json.loads(symbol.tojson())["nodes"]
        if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma", "True") == "True"
    }
    layers = complexity(symbol).layers
    return sum(layer.parameters - (layer.shape[0] if layer.name in fixed else 0) for layer in layers)


def _rate(entry: Published, contender: str, rounds: int, **work: int) -> float:
    """Return the images a second of a contender's file on a network."""
    options = {"network": entry.network, "network_options": entry.options, **work}
    (outcome,) = take_turns([Contender(entry.title, contender, options)], rounds=rounds)
    if outcome.failure:
        raise SetupError(f"{entry.title} cannot be measured: {outcome.failure}")
    return rate(outcome)


def draw_zoo(rows: list[ZooRow], path: str | os.PathLike, *, accuracy: str = "lfw") -> None:
    """Write a plot, PNG: accuracy against FLOPs, and against milliseconds where they were measured.

    A circle's area is in proportion to the network's parameters. `accuracy` is a key of `published.SETS`.
    """
    # Not pyplot, which looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [row for row in rows if getattr(row.published, accuracy) is not None]
    measured = [row for row in shown if row.milliseconds is not None]
    panels = [("FLOPs", shown, lambda row: row.flops)]
    if measured:
        panels.append(("ms an image, batch 1", measured, lambda row: row.milliseconds))
    figure = Figure(figsize=(8 * len(panels), 5), constrained_layout=True)
    families = {name: number for number, name in enumerate(dict.fromkeys(row.published.network for row in rows))}
    named = []
    for axes, (label, part, cost) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        names = []
        for row in part:
            place = cost(row), getattr(row.published, accuracy)
            colour = f"C{families[row.published.network] % 10}"
            axes.scatter(*place, s=row.parameters / 2e4, color=colour, alpha=0.5, linewidths=0)
            names.append(axes.annotate(row.published.title, place, (5, 0), textcoords="offset points", fontsize=6))
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel(f"{SETS[accuracy]}, published, %")
        axes.margins(0.12)
        named.append(names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # gives the panels their sizes, on which the places of the names depend
    for names in named:
        _spread(names, canvas.get_renderer())
    with atomic_path(path) as temporary:
        canvas.print_png(str(temporary))


def _spread(names: list[Any], renderer: Any) -> None:
    """Move annotations to where they cover none of those before: right or left of their points, ever further up or down."""
    taken: list[Any] = []
    for name in names:
        for distance, (x, side) in itertools.product(range(0, 90, 3), ((5, "left"), (-5, "right"))):
            for y in (distance, -distance):
                name.set(position=(x, y), ha=side, va="center")
                box = name.get_window_extent(renderer)
                if not any(box.overlaps(other) for other in taken):
                    break
            else:
                continue
            break
        taken.append(box)
