"""Train with a Gluon loop of your own, on a network and a loss of this package.

    python examples/gluon_loop.py --out runs/gluon/model

Blocks are drawn anew, without a checkpoint. What is saved is an ordinary checkpoint, for ``vargfacenet verify`` and the
others.
"""

import argparse
import contextlib
import pathlib
from collections.abc import Sequence
from typing import Optional

import mxnet as mx
from drawn_faces import draw_set

from vargfacenet.data import Augmentation, BatchReader, FaceIterator, RecordSet
from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.symbols import get_symbol, loss_block, network_block

NETWORK = {"multiplier": 0.25, "units": (1, 1, 1), "use_se": False, "embedding_size": 32}


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="a training set (default: drawn faces)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/gluon/model"), help="prefix of the checkpoint"
    )
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args(arguments)
    mx.random.seed(0)
    with contextlib.closing(RecordSet(args.data or draw_set(pathlib.Path("datasets/drawn")))) as records:
        network = network_block("vargfacenet", **NETWORK)
        loss = loss_block(
            "margin",
            num_identities=records.num_identities,
            embedding_size=NETWORK["embedding_size"],
            scale=16.0,
            m2=0.2,
        )
        parameters = [*network.collect_params().values(), *loss.collect_params().values()]
        optimizer = {"learning_rate": 0.02, "momentum": 0.9, "wd": 5e-4}
        trainer = mx.gluon.Trainer(parameters, "sgd", optimizer)
        batches = BatchReader(records, batch_size=args.batch_size, augment=Augmentation(shift=2))
        with contextlib.closing(FaceIterator(batches, last_update=args.updates)) as iterator:
            for update, batch in enumerate(iterator, 1):
                with mx.autograd.record():
                    losses, correct = loss(network(batch.data[0]), batch.label[0])  # each (N,)
                losses.backward()
                trainer.step(args.batch_size)
                mean, accuracy = float(losses.mean().asscalar()), float(correct.mean().asscalar())
                print(f"update {update}  loss {mean:.4f}  accuracy {accuracy:.2f}")
    save(args.out, network)
    print(f"saved {args.out}, epoch 0")


def save(prefix: pathlib.Path, network: mx.gluon.SymbolBlock) -> None:
    """Save a block as a checkpoint; a block's parameters have the names of the graph's."""
    symbol = get_symbol("vargfacenet", **NETWORK)
    values = {name: parameter.data() for name, parameter in network.collect_params().items()}
    args = {name: values[name] for name in symbol.list_arguments() if name != "data"}
    prefix.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(prefix, 0, symbol, args, {name: values[name] for name in symbol.list_auxiliary_states()})


if __name__ == "__main__":
    main()
