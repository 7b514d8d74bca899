"""``vargfacenet embed``: embeddings of images, into a file."""

import argparse
import io
from collections.abc import Callable

import numpy as np

from vargfacenet.commands.model_options import add_model_options, face_options, image_files, model_of
from vargfacenet.commands.output import progress
from vargfacenet.deploy import face_of
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import read_image


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Embeds aligned faces of 112x112, image and mirror added as verification does, and writes an .npz "
        "with 'names' (as given) and 'embeddings' (float32, one row each, length 1: cosines are products).",
    )
    add_model_options(parser)
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="images, or folders of them")
    parser.add_argument("--out", required=True, metavar="F.npz", help="the file to write")
    parser.set_defaults(run=run)


def run(args):
    files = image_files(args.images)
    options = face_options(args)
    model = model_of(args)
    faces = [face_of(read_image(path), str(path), **options) for path in files]
    with progress(total=len(faces), unit="image") as bar:
        embeddings = model.embed(faces, progress=bar.update)
    content = io.BytesIO()
    np.savez(content, names=np.array([str(path) for path in files], np.str_), embeddings=embeddings)
    with atomic_path(args.out) as temporary:
        temporary.write_bytes(content.getvalue())
    print(f"{args.out}: {embeddings.shape[1]} numbers of each of {len(files)} image(s)")
    return 0
