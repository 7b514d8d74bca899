"""Verify a checkpoint on worse and worse images of the same pairs.

    python examples/accuracy_by_quality.py runs/mine/best --set lfw.bin

Each row changes all images of the set in one way and scores it by the LFW protocol; the last three rows score thirds of
the unchanged pairs, by the sharpness of the less sharp image of each. Without arguments the network that comes with the
package is verified on drawn faces.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

import cv2
import numpy as np
from drawn_faces import draw_set

from vargfacenet.data.augment import compress
from vargfacenet.eval import Embedder, Pairs, read_pairs, verify_pairs
from vargfacenet.eval.quality import sharpness
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import decode_image, encode_png


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="vargfacenet-x050", help="prefix of a checkpoint")
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--set", type=pathlib.Path, help="a .bin file of pairs (default: drawn faces)")
    parser.add_argument(
        "--rows", nargs="+", default=[""], metavar="TEXT", help="rows whose names hold one of these texts"
    )
    args = parser.parse_args(arguments)
    pairs = read_pairs(args.set or draw_set(pathlib.Path("datasets/drawn")) / "drawn.bin")
    embedder = Embedder(*load_checkpoint(args.model, args.epoch))
    print("| images | pairs | accuracy | TAR@FAR=1e-3 |\n|---|---|---|---|")
    forms = [(name, functools.partial(change, pairs, function)) for name, function in changes()]
    forms += [(name, lambda third=third: third) for name, third in thirds(pairs)]
    for name, form in forms:
        if any(text in name for text in args.rows):
            chosen = form()
            result = verify_pairs(embedder, chosen)
            rates = f"{result.accuracy:.5f} +- {result.std:.5f} | {result.tar['0.001']:.4f}"
            print(f"| {name} | {len(chosen.is_same)} | {rates} |", flush=True)


def changes() -> Iterator[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    """Yield functions of RGB images, uint8 (112, 112, 3), each with its name in the table."""
    yield "as they are", lambda image: image
    for side in (56, 28, 20, 14):
        yield f"{side}x{side}, enlarged", functools.partial(coarsen, side=side)
    for quality in (30, 10, 5):
        yield f"JPEG, quality {quality}", functools.partial(compress, quality=quality)
    for share in (2, 4, 8):
        yield f"brightness 1/{share}", lambda image, share=share: image // share
    yield "mouth and chin covered", cover


def change(pairs: Pairs, function: Callable[[np.ndarray], np.ndarray]) -> Pairs:
    """Return the pairs with a function applied to all images, stored without loss."""
    return Pairs(
        [encode_png(function(decode_image(image, "image of a pair"))) for image in pairs.images], pairs.is_same
    )


def coarsen(image: np.ndarray, side: int) -> np.ndarray:
    """Reduce a square image to `side` pixels by area means, and enlarge it again by cubic interpolation."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def cover(image: np.ndarray) -> np.ndarray:
    """Fill an aligned face with grey below the tip of its nose, as a mask does."""
    image = image.copy()
    image[75:] = 128
    return image


def thirds(pairs: Pairs) -> Iterator[tuple[str, Pairs]]:
    """Yield thirds of the pairs, by the variance of the Laplacian of the less sharp image of each."""
    values = np.array([sharpness(decode_image(image, "image of a pair")) for image in pairs.images])
    least = values.reshape(-1, 2).min(axis=1)
    bounds = np.quantile(least, [1 / 3, 2 / 3])
    which = np.digitize(least, bounds)
    names = [f"sharpness below {bounds[0]:.0f}", f"sharpness up to {bounds[1]:.0f}", "sharper"]
    for third, name in enumerate(names):
        chosen = np.flatnonzero(which == third)
        images = [pairs.images[2 * pair + place] for pair in chosen for place in (0, 1)]
        yield name, Pairs(images, pairs.is_same[chosen])


if __name__ == "__main__":
    main()
