"""Distil a student from a teacher: angular distillation, two generations.

    python examples/distil_student.py --teacher path/to/model --data faces_emore --out runs/student

Without a teacher, the network that comes with the package teaches on drawn faces.
"""

import argparse
import logging
import pathlib
from collections.abc import Sequence
from typing import Optional

from drawn_faces import draw_set

from vargfacenet.train import Teacher, resolve, train


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--teacher", default="vargfacenet-x050", help="prefix of a checkpoint; any network of the lineage"
    )
    parser.add_argument("--data", type=pathlib.Path, help="a training set (default: drawn faces)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/student"))
    parser.add_argument("--updates", type=int, default=100, help="of each generation")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = args.data or draw_set(pathlib.Path("datasets/drawn"))
    # The recipe's other settings stay; its embedding size is replaced by the teacher's.
    settings = {
        "embedding_size": None,
        "units": (1, 1, 1),
        "batch_size": 8,
        "max_updates": args.updates,
        "verify_every": args.updates,
        "save_every": args.updates,
        "log_every": max(1, args.updates // 10),
    }
    config = resolve("demo_student", settings)
    result = train(config, data=data, out=args.out, bins=sorted(data.glob("*.bin")), teacher=Teacher(args.teacher))
    for number, generation in enumerate(result.generations, 1):
        scores = generation.verifications[max(generation.verifications)]
        print(f"generation {number}: " + ", ".join(f"{name} {score['accuracy']:.3f}" for name, score in scores.items()))
    print(f"best student: {result.out / 'best'}, epoch 0")


if __name__ == "__main__":
    main()
