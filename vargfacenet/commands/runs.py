"""``vargfacenet runs``: run folders side by side."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from vargfacenet.commands.arguments import add_json_argument
from vargfacenet.commands.output import json_writer, print_table
from vargfacenet.train.comparison import RunSummary, differing_settings, find_runs, read_runs
from vargfacenet.train.curves import check_format, curves_of, draw_runs


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="List run folders with their updates, best verification scores and last losses, and the settings in "
        "which they differ. Runs that are going on can be listed too.",
        examples=(
            "vargfacenet runs",
            "vargfacenet runs runs/student runs/student-2 --plot compared.png",
            "vargfacenet runs experiments --json runs.json",
        ),
    )
    parser.add_argument(
        "folders", metavar="FOLDER", nargs="*", default=["runs"], help="run folders, or folders of them (default: runs)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--plot", metavar="FILE", help="draw the curves of all runs into an image: .png, .svg or .pdf")
    add_json_argument(output)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.plot:
        check_format(args.plot)
    runs = read_runs(find_runs(args.folders))
    names = _short_names([str(one.path) for one in runs])
    different = differing_settings(runs)
    with json_writer(args.json) as write_json:
        print_table(*_results(names, runs))
        if different:
            print("\nsettings that differ")
            print_table(["setting", *names], [[name, *map(_value, values)] for name, values in different.items()])
        write_json({"runs": [one.as_dict() for one in runs], "different": different})
        if args.plot:
            draw_runs({name: curves_of(one.generations) for name, one in zip(names, runs)}, args.plot)
            print(f"\ncurves in {args.plot}")
    return 0


def _results(names: Sequence[str], runs: Sequence[RunSummary]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the table of results."""
    sets = list(dict.fromkeys(name for one in runs if one.best for name in one.best["accuracy"]))
    measures = list(dict.fromkeys(name for one in runs for name in one.last))
    headers = ["run", "updates", "of", *(f"best {name}" for name in sets)] + ["at"] * bool(sets)
    headers += [*(name.replace("_", " ") for name in measures), "images/s"]
    rows = []
    for name, one in zip(names, runs):
        accuracy = one.best["accuracy"] if one.best else {}
        row = [name, str(one.updates), str(one.all_updates)]
        row += [f"{accuracy[found]:.5f}" if found in accuracy else "-" for found in sets]
        if sets:
            row.append(_place(one))
        row += [f"{one.last[measure]:.4f}" if measure in one.last else "-" for measure in measures]
        rows.append([*row, "-" if one.images_per_second is None else f"{one.images_per_second:.1f}"])
    return headers, rows


def _place(one: RunSummary) -> str:
    """Return the update of the best scores, with its generation where there are several."""
    if one.best is None:
        return "-"
    generation = f"{one.best['generation']}:" if len(one.generations) > 1 else ""
    return f"{generation}{one.best['update']}"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return paths without the folder that they share."""
    if len(paths) < 2:
        return list(paths)
    shared = os.path.commonpath([os.path.abspath(path) for path in paths])
    return [os.path.relpath(os.path.abspath(path), shared) for path in paths]
