"""``vargfacenet models``: the trained networks that come with the package."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.output import print_table
from vargfacenet.models import LICENCE, list_models


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="List the trained networks that come with the package. Their names may be given wherever a command "
        "takes a MODEL. Each has a card that states how it was trained, how good it is, and what it must not be used for.",
        examples=("vargfacenet models",),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    models = list_models()
    rows = [
        [model.name, f"{model.embedding_size}", f"{model.accuracy:.5f}", f"{model.threshold:.4f}", f"{model.far:g}"]
        for model in models
    ]
    print_table(["name", "embedding", "LFW accuracy", "threshold", "FAR at threshold"], rows)
    for model in models:
        print(f"\n{model.name}: {model.summary}\n  card: {model.card}")
    print(f"\nlicence of the weights: {LICENCE}")
    return 0
