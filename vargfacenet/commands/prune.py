"""``vargfacenet prune``: a trained network with filters removed."""

import pathlib

from vargfacenet.commands.model_options import split_name
from vargfacenet.commands.output import print_table, verification_cells
from vargfacenet.options import check_range


def add_parser(commands, common):
    parser = commands.add_parser(
        "prune",
        parents=[common],
        help="remove the least important filters of a trained network",
        description="Scores the filters of a network by the first-order change of the loss that their removal makes, on "
        "images of a training set; removes the least important ones in steps, with everything that reads or writes their "
        "channels; and fine-tunes what is left by angular distillation from what it was.",
    )
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json")
    parser.add_argument("out", metavar="OUT", help="prefix of the checkpoint to write")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DIR", help="folders with train.rec, train.idx and property"
    )
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    parser.add_argument("--share", type=float, default=0.3, help="share of the filters to remove (default 0.3)")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps in which they are removed (default 3)")
    parser.add_argument("--images", type=int, default=1024, metavar="N", help="images to score them on (default 1024)")
    parser.add_argument(
        "--updates", type=int, default=300, metavar="N", help="updates of fine-tuning in all (default 300)"
    )
    parser.add_argument(
        "--lr", type=float, default=0.01, help="learning rate of the fine-tuning at first (default 0.01)"
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images in a batch (default 32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides which images come (default 0)")
    parser.add_argument("--bins", nargs="+", default=[], metavar="SET.bin", help="verification sets to score both on")
    parser.add_argument("--device", default="cpu:0", help="such as cpu:0 (default) or gpu:0")
    parser.set_defaults(run=run)


def run(args):
    import contextlib

    from vargfacenet.checkpoint import load_checkpoint, save_checkpoint
    from vargfacenet.eval import Embedder, read_sets, verify_pairs
    from vargfacenet.symbols.complexity import complexity
    from vargfacenet.train.prune import Plan, check_plan, prune
    from vargfacenet.train.run import open_sets
    from vargfacenet.train.trainer import parse_device

    check_range("--epoch", args.epoch, 0, 9999)
    plan = Plan(args.share, args.steps, args.images, args.updates, args.lr, args.batch_size, args.seed)
    check_plan(plan)
    device = parse_device(args.device)
    before = load_checkpoint(*split_name(args.prefix, args.epoch))
    pairs = read_sets(args.bins)
    with contextlib.closing(open_sets([pathlib.Path(folder) for folder in args.data])) as records:
        after = prune(before, records, plan, device=device)
    save_checkpoint(args.out, 0, *after)
    rows = []
    for label, checkpoint in (("before", before), ("after", after)):
        cost = complexity(checkpoint.symbol)
        scores = [verify_pairs(Embedder(*checkpoint, device=device), one) for one in pairs.values()]
        cells = [verification_cells(score.as_dict())[0] for score in scores]
        rows.append([label, f"{cost.parameters:,}", f"{cost.flops:,}", f"{cost.bytes / 2**20:.2f}", *cells])
    print_table(["network", "parameters", "FLOPs", "MiB", *pairs], rows)
    print(f"\nwritten    {args.out}-symbol.json, {args.out}-0000.params")
    return 0
