"""Train a network and a loss of your own, without a change in the package.

    python examples/own_network_and_loss.py --out runs/own

The two decorators make ``network=tiny`` and ``loss=focal`` known, and their options settings like any other. To use them
from the command line, put them into a package with entry points, or next to a recipe: see docs/extending.md.
"""

import argparse
import logging
import pathlib
from collections.abc import Sequence
from typing import Annotated, Optional

import mxnet as mx
from drawn_faces import draw_set

from vargfacenet.options import About
from vargfacenet.symbols import register_loss, register_network
from vargfacenet.train import resolve, train


@register_network
def tiny(
    *,
    embedding_size: int = 64,
    widths: Annotated[Sequence[int], About("Channels of each layer, which halves the image.", low=1, high=1024)] = (
        16,
        32,
        64,
    ),
) -> mx.sym.Symbol:
    """Convolutions with stride 2, global pooling, and a linear layer."""
    x = (mx.sym.var("data") - 127.5) / 128  # (N, 3, 112, 112)
    for number, width in enumerate(widths, 1):
        x = mx.sym.Convolution(x, num_filter=width, kernel=(3, 3), stride=(2, 2), pad=(1, 1), name=f"conv{number}")
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"bn{number}")
        x = mx.sym.LeakyReLU(x, act_type="prelu", name=f"act{number}")
    x = mx.sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1))
    return mx.sym.FullyConnected(x, num_hidden=embedding_size, name="fc1")  # (N, embedding_size)


@register_loss
def focal(
    embedding: mx.sym.Symbol,
    label: mx.sym.Symbol,
    *,
    num_identities: int,
    embedding_size: int,
    scale: Annotated[float, About("Factor of the cosines.", low=1, high=128)] = 16.0,
    gamma: Annotated[float, About("Exponent of the weight of easy samples; 0 is softmax.", low=0, high=5)] = 2.0,
) -> mx.sym.Symbol:
    """Focal loss over cosines [Lin et al., arXiv 1708.02002, eq. 4]."""
    weight = mx.sym.L2Normalization(mx.sym.var("fc7_weight", shape=(num_identities, embedding_size)))
    direction = mx.sym.L2Normalization(embedding)
    cosines = mx.sym.FullyConnected(direction, weight, num_hidden=num_identities, no_bias=True, name="fc7")
    chance = mx.sym.pick(mx.sym.log_softmax(scale * cosines, axis=1), label, axis=1)  # logarithm, (N,)
    loss = -((1 - mx.sym.exp(chance) + 1e-6) ** gamma) * chance
    correct = mx.sym.broadcast_equal(mx.sym.argmax(cosines, axis=1), label)
    return mx.sym.Group([loss, mx.sym.BlockGrad(correct)])


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="a training set (default: drawn faces)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/own"))
    parser.add_argument("--updates", type=int, default=200)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = args.data or draw_set(pathlib.Path("datasets/drawn"))
    settings = {
        "network": "tiny",
        "widths": "16,32",
        "loss": "focal",
        "gamma": 1.0,
        "batch_size": 16,
        "max_updates": args.updates,
        "schedule": "cosine",
        "lr": 0.05,
        "verify_every": args.updates,
        "save_every": args.updates,
        "log_every": max(1, args.updates // 10),
    }
    result = train(resolve(settings=settings), data=data, out=args.out, bins=sorted(data.glob("*.bin")))
    print(f"trained in {result.seconds:.0f} s: {result.out / 'latest'}, epoch 0")


if __name__ == "__main__":
    main()
