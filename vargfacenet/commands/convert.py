"""``vargfacenet convert``: a checkpoint of the lineage, or weights from PyTorch, as a plain one of this package."""

import argparse
import pathlib
from collections.abc import Callable

from vargfacenet.commands.arguments import add_set_argument, keep_old_spelling
from vargfacenet.commands.model_arguments import CHECKPOINT_HELP, add_model_argument, parse_checkpoint
from vargfacenet.deploy.conversion import convert_checkpoint
from vargfacenet.deploy.torch_conversion import convert_torch_state
from vargfacenet.errors import SettingError
from vargfacenet.options import check_range, split_assignments

_TORCH = (".pt", ".pth")


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Read a checkpoint of any year, also in float16, with its classifier or within a training graph, and "
        "write the embedding network alone: in float32, with the names of this package. The written checkpoint gives the "
        "same embeddings, or nothing is written.\n\n"
        "A file that ends in .pt or .pth is the state dict of a network in PyTorch, which --as names. Its entries are taken "
        "in their order, which must be that of the network's source.",
        examples=(
            "vargfacenet convert model-r100-ii/model,0 converted/r100",
            "vargfacenet convert insightface/vargfacenet,12 converted/vargfacenet --as vargfacenet",
            "vargfacenet convert gluon_export converted/model --output hybridsequential0_flatten0",
            "vargfacenet convert edgeface_xs.pt converted/edgeface --as edgeface --set size=xs",
        ),
    )
    add_model_argument(parser, help=f"{CHECKPOINT_HELP}, or a .pt or .pth file")
    parser.add_argument("out", metavar="OUT", help="the checkpoint to write, as PREFIX or PREFIX,EPOCH")
    parser.add_argument(
        "--as",
        dest="network",
        metavar="NETWORK",
        help="the network to write, where it is the same function, such as vargfacenet or vargfacenet_insightface",
    )
    add_set_argument(parser, what="options of the network in a .pt or .pth file", example="size=xs")
    parser.add_argument(
        "--output",
        metavar="NODE",
        help="the node whose output is the embedding (default: fc1, or the only output of two dimensions)",
    )
    keep_old_spelling(parser, "--out-epoch", new="OUT,EPOCH", dest="out_epoch", type=int, default=0)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if pathlib.PurePath(args.model).suffix in _TORCH:
        return _run_torch(args)
    if args.set:
        raise SettingError(f"--set is for a .pt or .pth file, whose network --as names; {args.model} is not one")
    prefix, epoch = parse_checkpoint(args.model, args.epoch)
    check_range("--out-epoch", args.out_epoch, 0, 9999)
    out, out_epoch = parse_checkpoint(args.out, args.out_epoch)
    done = convert_checkpoint(prefix, epoch, out, out_epoch=out_epoch, network=args.network, output=args.output)
    if done.recognised is None:
        print("network    not one of this package: its own graph, up to the embedding")
    else:
        options = " ".join(f"{name}={value}" for name, value in done.recognised.options.items())
        print(f"network    {done.recognised.network} {options}".rstrip())
    for old, new in done.renamed.items():
        print(f"renamed    {old} -> {new}")
    if done.left_out:
        print(f"left out   {', '.join(done.left_out)}")
    print(f"written    {out}-symbol.json, {out}-{out_epoch:04d}.params")
    print(f"compared   embeddings before and after, relative error {done.error:.1e}")
    return 0


def _run_torch(args: argparse.Namespace) -> int:
    if not args.network:
        raise SettingError(
            f"{args.model} does not say which network it is of: give --as NETWORK, such as --as iresnet50"
        )
    check_range("--out-epoch", args.out_epoch, 0, 9999)
    out, out_epoch = parse_checkpoint(args.out, args.out_epoch)
    done = convert_torch_state(args.model, out, args.network, out_epoch=out_epoch, **split_assignments(args.set))
    print(f"network    {' '.join([args.network, *args.set])}")
    print(f"converted  {len(done.names)} entries, from {next(iter(done.names))} to {list(done.names)[-1]}")
    if done.left_out:
        print(f"left out   {len(done.left_out)} counters of batches")
    print(f"written    {out}-symbol.json, {out}-{out_epoch:04d}.params")
    return 0
