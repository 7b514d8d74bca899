"""``vargfacenet verify``: the verification protocol on a checkpoint."""

import json

from vargfacenet.commands.embedding import add_embedding_options, checked_device
from vargfacenet.commands.output import print_table, progress, verification_cells


def add_parser(commands, common):
    parser = commands.add_parser(
        "verify",
        parents=[common],
        help="verification accuracy of a checkpoint on .bin sets",
        description="Scores a checkpoint of this project or of the InsightFace lineage on verification sets such as "
        "lfw.bin: ten folds, embeddings of picture and mirror added.",
    )
    add_embedding_options(parser)
    parser.add_argument("--bins", nargs="+", required=True, metavar="SET.bin", help="verification sets")
    parser.add_argument("--json", metavar="FILE", help="write the results here too")
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.checkpoint import load_checkpoint
    from vargfacenet.eval import Embedder, read_sets, verify_pairs
    from vargfacenet.files import write_text

    device = checked_device(args)
    sets = read_sets(args.bins)
    embedder = Embedder(*load_checkpoint(args.prefix, args.epoch), device=device, batch_size=args.batch_size)
    scores = {}
    for name, pairs in sets.items():
        with progress(total=len(pairs.pictures), unit="picture", desc=name) as bar:
            scores[name] = verify_pairs(embedder, pairs, progress=bar.update).as_dict()
    headers = ["set", "accuracy", "TAR@FAR=1e-3", "no flip", "threshold", "norm", "pairs"]
    rows = []
    for name, score in scores.items():
        plain = f"{score['accuracy_no_flip']:.5f} +- {score['std_no_flip']:.5f}"
        tail = [plain, f"{score['threshold']:.3f}", f"{score['embedding_norm']:.3f}", score["pairs"]]
        rows.append([name, *verification_cells(score), *tail])
    print_table(headers, rows)
    if args.json:
        write_text(args.json, json.dumps(scores, indent=2) + "\n")
    return 0
