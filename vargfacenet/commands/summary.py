"""``vargfacenet summary``: the layers of a network, and what they cost."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.arguments import add_json_argument, add_set_argument
from vargfacenet.commands.output import json_writer, print_table
from vargfacenet.errors import SettingError
from vargfacenet.options import split_assignments
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.complexity import complexity
from vargfacenet.symbols.registry import NETWORKS


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="List a network's layers with their shapes, and its parameters, FLOPs (by the rule of the 2019 "
        "Lightweight Face Recognition Challenge), multiply-adds and size in float32.",
        examples=(
            "vargfacenet summary vargfacenet",
            "vargfacenet summary vargfacenet --set use_se=false multiplier=0.5 --json summary.json",
        ),
    )
    parser.add_argument("network", metavar="NETWORK", nargs="?", help="a network, such as vargfacenet or resnet100")
    add_set_argument(parser, what="options of the network", example="use_se=false multiplier=0.5")
    add_json_argument(parser, bare=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.network is None:
        taken = f"; --json has taken {args.json} for its file" if args.json in NETWORKS else ""
        raise SettingError(f"no network given{taken}: it comes first, as in 'vargfacenet summary vargfacenet --json'")
    with json_writer(args.json) as write_json:
        cost = complexity(get_symbol(args.network, **split_assignments(args.set)))
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
        totals = {name: getattr(cost, name) for name in ("parameters", "flops", "multiply_adds", "bytes")}
        layers = [{**layer._asdict(), "shape": list(layer.shape)} for layer in cost.layers]
        write_json({"network": args.network, **totals, "layers": layers})
    return 0
