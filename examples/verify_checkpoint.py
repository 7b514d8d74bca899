"""Verify a checkpoint on pairs of faces, by the LFW protocol of ten folds.

    python examples/verify_checkpoint.py runs/mine/best --set lfw.bin

Without arguments it verifies the network that comes with the package, on drawn faces.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Optional

from drawn_faces import draw_set

from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vargfacenet-x050", help="prefix of a checkpoint")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--set", type=pathlib.Path, help="a .bin file of pairs (default: drawn faces)")
    args = parser.parse_args(arguments)
    pairs = read_pairs(args.set or draw_set(pathlib.Path("datasets/drawn")) / "drawn.bin")
    embedder = Embedder(*load_checkpoint(args.model, args.epoch))
    result = verify_pairs(embedder, pairs)
    print(f"{args.model} on {len(pairs.is_same)} pairs: accuracy {result.accuracy:.5f} +- {result.std:.5f}")


if __name__ == "__main__":
    main()
