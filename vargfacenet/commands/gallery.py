"""``vargfacenet gallery``: faces of known people in a folder, and who of them an image shows."""

import argparse
import os
import pathlib
from collections.abc import Callable

from vargfacenet.commands.model_options import add_model_options, face_options, image_files, model_of
from vargfacenet.commands.output import print_table
from vargfacenet.deploy import Gallery, face_of
from vargfacenet.deploy.gallery import digest
from vargfacenet.formats.images import read_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Keeps embeddings of known people's faces in a folder (the images are not kept) and searches it.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    adding = actions.add_parser("add", help="add faces")
    adding.add_argument("folder", metavar="GALLERY", help="folder of the gallery, made where it is missing")
    add_model_options(adding)
    adding.add_argument("images", metavar="IMAGES", nargs="+", help="images, or folders of them")
    adding.add_argument("--name", help="whose faces these are (default: the name of the folder that each image is in)")
    adding.set_defaults(run=run_add)
    search = actions.add_parser("search", help="the people nearest to a face")
    search.add_argument("folder", metavar="GALLERY", help="folder of the gallery")
    add_model_options(search)
    search.add_argument("image", metavar="IMAGE", help="an image")
    search.add_argument("--top", type=int, default=5, metavar="N", help="people to list (default 5)")
    search.set_defaults(run=run_search)


def run_add(args):
    files, options = image_files(args.images), face_options(args)
    gallery, model = Gallery(args.folder), model_of(args)
    images = [read_image(path) for path in files]
    faces = [face_of(image, str(path), **options) for image, path in zip(images, files)]
    names = [args.name or pathlib.Path(os.path.abspath(path)).parent.name for path in files]
    added = gallery.add(model, faces, names, [digest(image) for image in images])
    there = f", {len(files) - added} were there already" if added < len(files) else ""
    print(f"{args.folder}: {added} added{there}; {len(gallery.names)} faces of {len(set(gallery.names))} people")
    return 0


def run_search(args):
    check_range("--top", args.top, 1, 1000)
    options = face_options(args)
    gallery, model = Gallery(args.folder), model_of(args)
    face = face_of(read_image(args.image), args.image, **options)
    hits = gallery.search(model, face, top=args.top)
    if model.threshold is None:
        print_table(["name", "cosine"], [[hit.name, f"{hit.cosine:.4f}"] for hit in hits])
        return 0
    rows = [[hit.name, f"{hit.cosine:.4f}", "yes" if hit.cosine > model.threshold else "no"] for hit in hits]
    print_table(["name", "cosine", f"above {model.threshold:.4f}"], rows)
    return 0
