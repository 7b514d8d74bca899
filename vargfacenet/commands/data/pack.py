"""``vargfacenet data pack``: a training set of aligned images."""

import argparse

from vargfacenet.commands.output import progress
from vargfacenet.data.writer import faces_of_folder, write_records


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    pack = actions.add_parser(
        "pack",
        help="a folder for each identity -> train.rec, .idx, property",
        description="Write the images of a folder, which holds a folder for each identity, as a training set.",
        examples=(
            "vargfacenet data pack aligned my_faces",
            "vargfacenet data pack aligned my_faces --resize",
        ),
    )
    pack.add_argument("images", metavar="IMAGES", help="folder with one folder of aligned 112x112 images per identity")
    pack.add_argument("folder", metavar="DIR", help="folder that receives the set")
    pack.add_argument("--resize", action="store_true", help="scale images of another size instead of refusing them")
    pack.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    faces = faces_of_folder(
        args.images, resize=args.resize, progress=lambda folders: progress(folders, unit="identity")
    )
    images, identities = write_records(args.folder, faces)
    print(f"{args.folder}/train.rec: {images} images of {identities} identities")
    return 0
