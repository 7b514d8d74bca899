"""``vargfacenet convert``: a checkpoint of the lineage as a plain one of this package."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.model_options import split_name
from vargfacenet.deploy.conversion import convert_checkpoint
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Reads a checkpoint of whatever year, also in float16, with its classifier or with a training graph "
        "around it, and writes the embedding alone: float32, the names of this package. What was written embeds as what "
        "was read, or nothing is written.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json")
    parser.add_argument("out", metavar="OUT", help="prefix of the checkpoint to write")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument("--out-epoch", type=int, default=0, metavar="N", help="as in OUT-000N.params (default 0)")
    parser.add_argument(
        "--as",
        dest="network",
        metavar="NETWORK",
        help="the network it must become, where that is the same function, such as vargfacenet or vargfacenet_insightface",
    )
    parser.add_argument(
        "--output",
        metavar="NODE",
        help="the node whose output is the embedding (default: fc1, or the only output of two dimensions)",
    )
    parser.set_defaults(run=run)


def run(args):
    check_range("--epoch", args.epoch, 0, 9999)
    args.prefix, args.epoch = split_name(args.prefix, args.epoch)
    check_range("--out-epoch", args.out_epoch, 0, 9999)
    options = {"out_epoch": args.out_epoch, "network": args.network, "output": args.output}
    done = convert_checkpoint(args.prefix, args.epoch, args.out, **options)
    if done.recognised is None:
        print("network    none of this package; its own graph, up to the embedding")
    else:
        options = " ".join(f"{name}={value}" for name, value in done.recognised.options.items())
        print(f"network    {done.recognised.network} {options}".rstrip())
    for old, new in done.renamed.items():
        print(f"renamed    {old} -> {new}")
    if done.left_out:
        print(f"left out   {', '.join(done.left_out)}")
    print(f"written    {args.out}-symbol.json, {args.out}-{args.out_epoch:04d}.params")
    print(f"compared   embeddings before and after, relative error {done.error:.1e}")
    return 0
