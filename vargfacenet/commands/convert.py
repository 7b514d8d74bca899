"""``vargfacenet convert``: a checkpoint of the lineage, or weights from PyTorch, as a plain one of this package."""

import pathlib

from vargfacenet.commands.model_options import split_name
from vargfacenet.errors import SettingError
from vargfacenet.options import check_range, split_assignments

_TORCH = (".pt", ".pth")


def add_parser(commands, common):
    parser = commands.add_parser(
        "convert",
        parents=[common],
        help="write any checkpoint of the lineage, or weights from PyTorch, as a plain embedding",
        description="Reads a checkpoint of whatever year, also in float16, with its classifier or with a training graph "
        "around it, and writes the embedding alone: float32, the names of this package. What was written embeds as what "
        "was read, or nothing is written. A file that ends in .pt or .pth is the state dict of a network in PyTorch, which "
        "--as names: its entries are taken in their order, which must be that of the network's source.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json, or a .pt or .pth file")
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
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="OPTION=VALUE",
        help="options of the network that a PyTorch file is of, such as size=xs",
    )
    parser.add_argument(
        "--output",
        metavar="NODE",
        help="the node whose output is the embedding (default: fc1, or the only output of two dimensions)",
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.deploy.conversion import convert_checkpoint

    if pathlib.Path(args.prefix).suffix in _TORCH:
        return _run_torch(args)
    if args.set:
        raise SettingError(f"--set is for a .pt or .pth file, whose network --as names; {args.prefix} is none")
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


def _run_torch(args):
    from vargfacenet.deploy.torch_conversion import convert_torch_state

    if not args.network:
        raise SettingError(
            f"{args.prefix} does not say which network it is of: give --as NETWORK, such as --as iresnet50"
        )
    check_range("--out-epoch", args.out_epoch, 0, 9999)
    options = split_assignments(args.set)
    done = convert_torch_state(args.prefix, args.out, args.network, out_epoch=args.out_epoch, **options)
    print(f"network    {' '.join([args.network, *args.set])}")
    print(f"converted  {len(done.names)} entries, from {next(iter(done.names))} to {list(done.names)[-1]}")
    if done.left_out:
        print(f"left out   {len(done.left_out)} counters of batches")
    print(f"written    {args.out}-symbol.json, {args.out}-{args.out_epoch:04d}.params")
    return 0
