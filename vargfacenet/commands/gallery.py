"""``vargfacenet gallery``: a folder with faces of known people, and a search for those nearest to an image."""

import argparse
import os
import pathlib
from collections.abc import Callable, Sequence

from vargfacenet.commands.arguments import add_json_argument
from vargfacenet.commands.face_files import add_skip_argument, face_reader, list_faults, with_hint
from vargfacenet.commands.model_arguments import (
    add_alignment_arguments,
    add_model_and_images,
    add_runtime_arguments,
    load_face_model,
    take_images,
)
from vargfacenet.commands.output import json_writer, print_table, progress
from vargfacenet.deploy import Gallery
from vargfacenet.deploy.gallery import image_digest
from vargfacenet.errors import DataError
from vargfacenet.formats.images import read_image
from vargfacenet.options import check_range


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Store embeddings of known people's faces in a folder, without the images, and search it.",
        examples=(
            "vargfacenet gallery add people known --align",
            "vargfacenet gallery search people visitor.jpg --align",
            "vargfacenet gallery list people",
        ),
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    adding = actions.add_parser(
        "add",
        help="add faces",
        description="Add faces to a gallery. An image that is in it already is skipped.",
        examples=(
            "vargfacenet gallery add people known --align",
            "vargfacenet gallery add people vargfacenet-x050 ada1.png ada2.png --name ada",
        ),
    )
    adding.add_argument("folder", metavar="GALLERY", help="folder of the gallery, made where it is missing")
    add_model_and_images(adding)
    adding.add_argument("--name", help="name for these faces (default: the name of each image's folder)")
    add_skip_argument(adding)
    add_alignment_arguments(adding)
    add_runtime_arguments(adding)
    adding.set_defaults(run=run_add)
    search = actions.add_parser(
        "search",
        help="list the people nearest to faces",
        description="List the people of a gallery who are nearest to a face, with the cosine of their nearest image.",
        examples=(
            "vargfacenet gallery search people vargfacenet-x050 visitor.png --top 3",
            "vargfacenet gallery search people vargfacenet-x050 visitors --skip-bad --top 1 --json found.json",
        ),
    )
    search.add_argument("folder", metavar="GALLERY", help="folder of the gallery")
    add_model_and_images(search)
    search.add_argument("--top", type=int, default=5, metavar="N", help="people to list of each image (default 5)")
    add_skip_argument(search)
    add_alignment_arguments(search)
    add_runtime_arguments(search)
    add_json_argument(search)
    search.set_defaults(run=run_search)
    listing = actions.add_parser(
        "list",
        help="list the people",
        description="List the people of a gallery with the number of their faces.",
        examples=("vargfacenet gallery list people",),
    )
    listing.add_argument("folder", metavar="GALLERY", help="folder of the gallery")
    add_json_argument(listing)
    listing.set_defaults(run=run_list)
    removing = actions.add_parser(
        "remove",
        help="remove people",
        description="Remove all faces of people from a gallery.",
        examples=("vargfacenet gallery remove people ada",),
    )
    removing.add_argument("folder", metavar="GALLERY", help="folder of the gallery")
    removing.add_argument("names", metavar="NAME", nargs="+", help="names, as 'vargfacenet gallery list' shows them")
    removing.set_defaults(run=run_remove)


def run_add(args: argparse.Namespace) -> int:
    given = take_images(args)
    gallery, model = Gallery(args.folder), load_face_model(args)
    files, digests, faults = _digests(args, given)
    names = [args.name or pathlib.Path(os.path.abspath(path)).parent.name for path in files]
    with progress(total=len(files), unit="image") as bar:
        done = gallery.add_readable(
            model, face_reader(args, files), names, digests, skip_bad=args.skip_bad, progress=bar.update
        )
    places = {path: place for place, path in enumerate(given)}
    faults.update({places[files[place]]: fault for place, fault in done.faults.items()})
    list_faults(given, faults)
    known = f", {done.known} known already" if done.known else ""
    print(f"{args.folder}: {done.added} added{known}; {_size(gallery)}")
    return 0


def run_search(args: argparse.Namespace) -> int:
    check_range("--top", args.top, 1, 1000)
    files = take_images(args)
    gallery, model = Gallery(args.folder), load_face_model(args)
    gallery.check_searchable(model)
    read = face_reader(args, files)
    with json_writer(args.json) as write_json:
        with progress(total=len(files), unit="image") as bar:
            found = model.embed_readable(len(files), read, skip_bad=args.skip_bad, progress=bar.update)
        hits = {place: gallery.nearest(row, top=args.top) for place, row in zip(found.places, found.embeddings)}
        headers, rows = ["name", "cosine"], []
        if len(files) > 1:
            headers.insert(0, "image")
        if model.threshold is not None:
            headers.append(f"above {model.threshold:.4f}")
        for place, nearest in hits.items():
            for hit in nearest:
                row = [str(files[place])] * (len(files) > 1) + [hit.name, f"{hit.cosine:.4f}"]
                rows.append(row if model.threshold is None else [*row, "yes" if hit.cosine > model.threshold else "no"])
        list_faults(files, found.faults)
        print_table(headers, rows)
        write_json(
            {
                "threshold": model.threshold,
                "images": {str(files[place]): [hit._asdict() for hit in nearest] for place, nearest in hits.items()},
                "skipped": {str(files[place]): fault for place, fault in found.faults.items()},
            }
        )
    return 0


def run_list(args: argparse.Namespace) -> int:
    gallery = _existing(args.folder)
    faces = gallery.faces_by_name()
    with json_writer(args.json) as write_json:
        print_table(["name", "faces"], [[name, count] for name, count in faces.items()])
        print(_size(gallery))
        write_json(faces)
    return 0


def run_remove(args: argparse.Namespace) -> int:
    gallery = _existing(args.folder)
    removed = gallery.remove(args.names)
    print(f"{args.folder}: {removed} removed; {_size(gallery)}")
    return 0


def _existing(folder: str) -> Gallery:
    gallery = Gallery(folder)
    if not gallery.path.is_file():
        raise DataError(
            f"{folder} is not a gallery (it has no {gallery.path.name}): 'vargfacenet gallery add' makes one"
        )
    return gallery


def _size(gallery: Gallery) -> str:
    return f"{len(gallery.names)} faces of {len(set(gallery.names))} people"


def _digests(
    args: argparse.Namespace, files: Sequence[pathlib.Path]
) -> tuple[list[pathlib.Path], list[str], dict[int, str]]:
    """Return the files that can be read with their digests, and the errors of the others by their place in `files`."""
    kept, digests, faults = [], [], {}
    for place, path in enumerate(progress(files, unit="image", desc="reading")):
        try:
            digests.append(image_digest(read_image(path)))
            kept.append(path)
        except DataError as error:
            if not args.skip_bad:
                raise with_hint(args, error, len(files)) from None
            faults[place] = str(error)
    return kept, digests, faults
