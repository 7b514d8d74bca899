"""``vargfacenet demo``: a local page that compares two images."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.server_arguments import (
    add_server_arguments,
    check_server_arguments,
    load_served,
    run_server,
    until_interrupted,
)
from vargfacenet.deploy.demo import make_demo
from vargfacenet.deploy.server import Address


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Serve a page that compares two images. Only this machine reaches it, unless --host says otherwise. "
        "Uploads are bounded and never stored. In images that are not 112x112 the face is found and aligned; without a "
        "detector they are cropped to their middle.",
        examples=(
            "vargfacenet demo",
            "vargfacenet demo student.onnx --port 8080 --threshold 0.35",
        ),
    )
    add_server_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return until_interrupted(_serve, args)


def _serve(args: argparse.Namespace) -> None:
    check_server_arguments(args)
    # A request embeds two images, never more.
    served = load_served(args, batch_size=2, otherwise="photographs are cropped to their middle square")
    run_server(make_demo(served, Address(args.host, args.port)), args.host)
