"""``vargfacenet embed``: embeddings of images, written to a file."""

import argparse
import io
from collections.abc import Callable

import numpy as np

from vargfacenet.commands.arguments import add_embedding_arguments, checked_device
from vargfacenet.commands.face_files import add_skip_argument, face_reader, list_faults
from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_model_and_images,
    add_runtime_arguments,
    load_face_model,
    take_images,
)
from vargfacenet.commands.output import check_writable, progress
from vargfacenet.formats.files import atomic_path


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Embed aligned faces of 112x112 as verification does, image and mirror added, and write an .npz with "
        "'names' (as given) and 'embeddings' (float32, one row each, l2-normalized: cosines are products).",
        examples=(
            "vargfacenet embed photographs --align --out photographs.npz",
            "vargfacenet embed student.onnx faces --skip-bad --out faces.npz",
            "vargfacenet embed student.onnx a.png b.png --out two.npz",
            "vargfacenet embed model-r100-ii/model,0 faces --device cuda:0 --batch-size 256 --out faces.npz",
        ),
    )
    add_model_and_images(parser)
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="the file to write")
    add_skip_argument(parser)
    add_alignment_arguments(parser)
    add_embedding_arguments(parser)
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    files, device = take_images(args), checked_device(args)
    check_writable(args.out)
    read, model = face_reader(args, files), load_face_model(args, device=device, batch_size=args.batch_size)
    with progress(total=len(files), unit="image") as bar:
        found = model.embed_readable(len(files), read, skip_bad=args.skip_bad, progress=bar.update)
    list_faults(files, found.faults)
    content = io.BytesIO()
    names = np.array([str(files[place]) for place in found.places], np.str_)
    np.savez(content, names=names, embeddings=found.embeddings)
    with atomic_path(args.out) as temporary:
        temporary.write_bytes(content.getvalue())
    print(f"{args.out}: embeddings of {found.embeddings.shape[1]} numbers of {len(names)} image(s)")
    return 0
