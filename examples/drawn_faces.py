"""Drawn faces for the examples, so that they run without any data set."""

import pathlib

from vargfacenet.data.synth import draw_faces, draw_pairs
from vargfacenet.data.writer import write_records
from vargfacenet.eval import write_pairs


def draw_set(folder: pathlib.Path, *, identities: int = 20, images: int = 6, pairs: int = 40) -> pathlib.Path:
    """Draw a training set and, of other identities, a verification set ``drawn.bin`` into a folder, unless it is there."""
    if not (folder / "drawn.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_records(folder, draw_faces(num_identities=identities, images_per_identity=images))
        drawn = draw_pairs(num_identities=20, images_per_identity=2, num_pairs=pairs, first_identity=identities)
        write_pairs(folder / "drawn.bin", *drawn)
    return folder
