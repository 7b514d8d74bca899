"""``vargfacenet gallery``: a folder with faces of known people, and a search for those nearest to an image."""

import argparse
import os
import pathlib
from collections.abc import Callable

from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_model_argument,
    add_runtime_arguments,
    face_options,
    image_files,
    load_face_model,
)
from vargfacenet.commands.output import print_table
from vargfacenet.deploy import Gallery, face_of
from vargfacenet.deploy.gallery import image_digest
from vargfacenet.formats.images import read_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Store embeddings of known people's faces in a folder, without the images, and search it.",
        examples=(
            "vargfacenet gallery add people vargfacenet-x050 known --align",
            "vargfacenet gallery search people vargfacenet-x050 visitor.jpg --align",
        ),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    adding = actions.add_parser(
        "add",
        help="add faces",
        description="Add faces to a gallery. An image that is in it already is skipped.",
        examples=(
            "vargfacenet gallery add people vargfacenet-x050 known --align",
            "vargfacenet gallery add people vargfacenet-x050 ada1.png ada2.png --name ada",
        ),
    )
    adding.add_argument("folder", metavar="GALLERY", help="folder of the gallery, made where it is missing")
    add_model_argument(adding)
    adding.add_argument("images", metavar="IMAGES", nargs="+", help="images, or folders of them")
    adding.add_argument("--name", help="name for these faces (default: the name of each image's folder)")
    add_alignment_arguments(adding)
    add_runtime_arguments(adding)
    adding.set_defaults(run=run_add)
    search = actions.add_parser(
        "search",
        help="list the people nearest to a face",
        description="List the people of a gallery who are nearest to a face, with the cosine of their nearest image.",
        examples=("vargfacenet gallery search people vargfacenet-x050 visitor.png --top 3",),
    )
    search.add_argument("folder", metavar="GALLERY", help="folder of the gallery")
    add_model_argument(search)
    search.add_argument("image", metavar="IMAGE", help="an image")
    search.add_argument("--top", type=int, default=5, metavar="N", help="people to list (default 5)")
    add_alignment_arguments(search)
    add_runtime_arguments(search)
    search.set_defaults(run=run_search)


def run_add(args: argparse.Namespace) -> int:
    files, options = image_files(args.images), face_options(args)
    gallery, model = Gallery(args.folder), load_face_model(args)
    images = [read_image(path) for path in files]
    faces = [face_of(image, str(path), **options) for image, path in zip(images, files)]
    names = [args.name or pathlib.Path(os.path.abspath(path)).parent.name for path in files]
    added = gallery.add(model, faces, names, [image_digest(image) for image in images])
    known = f", {len(files) - added} known already" if added < len(files) else ""
    print(f"{args.folder}: {added} added{known}; {len(gallery.names)} faces of {len(set(gallery.names))} people")
    return 0


def run_search(args: argparse.Namespace) -> int:
    check_range("--top", args.top, 1, 1000)
    options = face_options(args)
    gallery, model = Gallery(args.folder), load_face_model(args)
    face = face_of(read_image(args.image), args.image, **options)
    hits = gallery.search(model, face, top=args.top)
    if model.threshold is None:
        print_table(["name", "cosine"], [[hit.name, f"{hit.cosine:.4f}"] for hit in hits])
        return 0
    rows = [[hit.name, f"{hit.cosine:.4f}", "yes" if hit.cosine > model.threshold else "no"] for hit in hits]
    print_table(["name", "cosine", f"above {model.threshold:.4f}"], rows)
    return 0
