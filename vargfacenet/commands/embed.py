"""``vargfacenet embed``: embeddings of images, written to a file."""

import argparse
import io
from collections.abc import Callable

import numpy as np

from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_model_argument,
    add_runtime_arguments,
    face_options,
    image_files,
    load_face_model,
)
from vargfacenet.commands.output import progress
from vargfacenet.deploy import face_of
from vargfacenet.formats.files import atomic_path
from vargfacenet.formats.images import read_image


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Embed aligned faces of 112x112 as verification does, image and mirror added, and write an .npz with "
        "'names' (as given) and 'embeddings' (float32, one row each, l2-normalized: cosines are products).",
        examples=(
            "vargfacenet embed vargfacenet-x050 photographs --align --out photographs.npz",
            "vargfacenet embed student.onnx a.png b.png --out two.npz",
        ),
    )
    add_model_argument(parser)
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="images, or folders of them")
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="the file to write")
    add_alignment_arguments(parser)
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    files = image_files(args.images)
    options = face_options(args)
    model = load_face_model(args)
    faces = [face_of(read_image(path), str(path), **options) for path in files]
    with progress(total=len(faces), unit="image") as bar:
        embeddings = model.embed(faces, progress=bar.update)
    content = io.BytesIO()
    np.savez(content, names=np.array([str(path) for path in files], np.str_), embeddings=embeddings)
    with atomic_path(args.out) as temporary:
        temporary.write_bytes(content.getvalue())
    print(f"{args.out}: embeddings of {embeddings.shape[1]} numbers of {len(files)} image(s)")
    return 0
