"""``vargfacenet summary``: what a network consists of and costs."""

import argparse
import json
from collections.abc import Callable

from vargfacenet.commands.output import print_table
from vargfacenet.options import split_assignments
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.complexity import complexity


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Prints a network's layers with their shapes, and its parameters, FLOPs (by the rule of the 2019 "
        "Lightweight Face Recognition Challenge), multiply-adds and size in float32.",
    )
    parser.add_argument("network", metavar="NETWORK", help="such as vargfacenet or resnet100")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="OPTION=VALUE",
        help="such as use_se=false multiplier=0.5",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args):
    cost = complexity(get_symbol(args.network, **split_assignments(args.set)))
    if args.json:
        totals = {name: getattr(cost, name) for name in ("parameters", "flops", "multiply_adds", "bytes")}
        layers = [{**layer._asdict(), "shape": list(layer.shape)} for layer in cost.layers]
        print(json.dumps({"network": args.network, **totals, "layers": layers}, indent=1))
        return 0
    rows = [
        [layer.name, layer.operator, "x".join(map(str, layer.shape)), f"{layer.parameters:,}", f"{layer.flops:,}"]
        for layer in cost.layers
    ]
    print_table(["layer", "operator", "output", "parameters", "FLOPs"], rows)
    print()
    print(f"parameters     {cost.parameters:,}")
    print(f"FLOPs          {cost.flops:,}")
    print(f"multiply-adds  {cost.multiply_adds:,}")
    print(f"float32 size   {cost.bytes / 2**20:.2f} MiB, running statistics included")
    return 0
