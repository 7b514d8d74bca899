"""``vargfacenet prune``: a trained network with filters removed."""

import argparse
import contextlib
from collections.abc import Callable

from vargfacenet.commands.arguments import add_device_argument
from vargfacenet.commands.model_arguments import CHECKPOINT_HELP, add_model_argument, parse_checkpoint
from vargfacenet.commands.output import check_writable, print_table, verification_cells
from vargfacenet.devices import parse_device
from vargfacenet.eval import Embedder, read_sets, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.symbols.complexity import complexity
from vargfacenet.train.prune import Plan, check_plan, mean_cosine, prune
from vargfacenet.train.training_data import open_records


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Score the filters of a network by the first-order change of the loss that their removal makes, on "
        "images of a training set; remove the least important ones in steps, with everything that reads or writes their "
        "channels; and fine-tune what is left by angular distillation from the network before pruning. The cosine is that of "
        "the embeddings to those of the network before, on as many images of the set as filters are scored on; --updates 0 "
        "shows it without fine-tuning.",
        examples=(
            "vargfacenet prune runs/mine/best pruned/mine --data faces_emore --share 0.3",
            "vargfacenet prune runs/mine/best pruned/mine --data faces_emore --steps 5 --updates 2000 --bins lfw.bin",
        ),
    )
    add_model_argument(parser, help=CHECKPOINT_HELP)
    parser.add_argument("out", metavar="OUT", help="the checkpoint to write, as PREFIX or PREFIX,EPOCH")
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="DIR", help="folders with train.rec, train.idx and property"
    )
    parser.add_argument("--share", type=float, default=0.3, help="share of the filters to remove (default 0.3)")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps in which they are removed (default 3)")
    parser.add_argument("--images", type=int, default=1024, metavar="N", help="images to score them on (default 1024)")
    parser.add_argument(
        "--updates", type=int, default=300, metavar="N", help="updates of fine-tuning in all (default 300)"
    )
    parser.add_argument(
        "--lr", type=float, default=0.01, help="initial learning rate of the fine-tuning (default 0.01)"
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images in a batch (default 32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="determines which images are used (default 0)")
    parser.add_argument("--bins", nargs="+", default=[], metavar="SET.bin", help="verification sets to score both on")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    plan = Plan(args.share, args.steps, args.images, args.updates, args.lr, args.batch_size, args.seed)
    check_plan(plan)
    device = parse_device(args.device)
    out, epoch = parse_checkpoint(args.out)
    check_writable(f"{out}-symbol.json")
    before = load_checkpoint(*parse_checkpoint(args.model, args.epoch))
    pairs = read_sets(args.bins)
    with contextlib.closing(open_records(args.data)) as records:
        after = prune(before, records, plan, device=device)
        cosine = mean_cosine(before, after, records, plan, device=device)
    save_checkpoint(out, epoch, *after)
    rows = []
    for label, checkpoint, near in (("before", before, 1.0), ("after", after, cosine)):
        cost = complexity(checkpoint.symbol)
        scores = [verify_pairs(Embedder(*checkpoint, device=device), one) for one in pairs.values()]
        cells = [verification_cells(score.as_dict())[0] for score in scores]
        rows.append(
            [label, f"{cost.parameters:,}", f"{cost.flops:,}", f"{cost.bytes / 2**20:.2f}", f"{near:.4f}", *cells]
        )
    print_table(["network", "parameters", "FLOPs", "MiB", "cosine", *pairs], rows)
    print(f"\nwritten    {out}-symbol.json, {out}-{epoch:04d}.params")
    return 0
