"""``vargfacenet bench``: how fast this machine is, tier by tier of operators."""

import json
import os

from vargfacenet.commands.output import print_table
from vargfacenet.options import split_assignments


def add_parser(commands, common):
    parser = commands.add_parser(
        "bench",
        parents=[common],
        help="how fast networks train here",
        description="Measures, in rounds in which the contenders take turns, so that what else the machine does touches "
        "all alike; prints medians.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    train = kinds.add_parser(
        "train",
        parents=[common],
        help="images a second in training, by tier of operators",
        description="Trains a network on random pictures on the CPU: on native operators, on MXNet's basic ones, and on "
        "its stock ones, whose gradients are wrong. The data set and its decoding are left out.",
    )
    train.add_argument("network", metavar="NETWORK", nargs="?", default="vargfacenet", help="(default: %(default)s)")
    train.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="OPTION=VALUE", help="such as multiplier=0.5"
    )
    train.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures (default: %(default)s)")
    train.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each tier (default: %(default)s)")
    train.add_argument("--updates", type=int, default=2, metavar="N", help="of a turn (default: %(default)s)")
    train.add_argument("--json", metavar="FILE", help="write the figures there too")
    train.set_defaults(run=run)


def run(args):
    from vargfacenet.environment import processor_name
    from vargfacenet.files import write_text
    from vargfacenet.operators import TIERS, missing_for_native
    from vargfacenet.options import check_range
    from vargfacenet.symbols import get_symbol
    from vargfacenet.train.benchmark import training_speeds

    for option in ("batch_size", "rounds", "updates"):
        check_range(f"--{option.replace('_', '-')}", getattr(args, option), 1, 100000)
    options = split_assignments(args.set)
    symbol = get_symbol(args.network, **options)
    missing = missing_for_native()
    tiers = [tier for tier in TIERS if tier != "native" or not missing]
    machine = {"processor": processor_name(), "threads": os.environ["OMP_NUM_THREADS"]}
    print(
        f"{args.network} {' '.join(args.set)}, batch {args.batch_size}: {args.rounds} rounds of {args.updates} updates"
    )
    print(f"on {machine['processor']}, {machine['threads']} thread(s)")
    if missing:
        print(f"native operators are left out: {missing}")
    speeds = training_speeds(symbol, tiers=tiers, batch_size=args.batch_size, rounds=args.rounds, updates=args.updates)
    stock = speeds[-1].images_per_second
    rows = [
        [
            speed.tier,
            f"{speed.images_per_second:.1f}",
            f"{min(speed.rounds):.1f} - {max(speed.rounds):.1f}",
            f"{speed.images_per_second / stock:.2f}",
        ]
        for speed in speeds
    ]
    print_table(["operators", "images/s", "rounds", "x stock"], rows)
    if args.json:
        report = {
            "network": args.network,
            "options": options,
            "batch_size": args.batch_size,
            "updates": args.updates,
            **machine,
            "speeds": [speed._asdict() for speed in speeds],
        }
        write_text(args.json, json.dumps(report, indent=1) + "\n")
    return 0
