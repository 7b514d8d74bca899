"""``vargfacenet serve``: embeddings, comparisons and a search over HTTP."""

import argparse
from collections.abc import Callable

from vargfacenet.commands.server_arguments import (
    add_server_arguments,
    check_server_arguments,
    load_served,
    run_server,
    until_interrupted,
)
from vargfacenet.deploy import Gallery
from vargfacenet.deploy.server import Address
from vargfacenet.deploy.service import make_service


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Serve embeddings (POST /embed), comparisons (POST /compare) and, with --gallery, a search (POST "
        "/search) over HTTP. GET /health says what is served, GET /openapi.json describes it. Only this machine reaches it, "
        "unless --host says otherwise: there is no encryption and no password. Images are bounded and never stored.",
        examples=(
            "vargfacenet serve",
            "vargfacenet serve student.onnx --port 8080 --threshold 0.35",
            "vargfacenet serve vargfacenet-x050 --gallery people",
        ),
    )
    server = add_server_arguments(parser)
    server.add_argument(
        "--gallery", metavar="FOLDER", help="search in this gallery of 'vargfacenet gallery', read once at the start"
    )
    server.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="HOST",
        help="names by which requests may call this machine, in addition to addresses and localhost",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return until_interrupted(_serve, args)


def _serve(args: argparse.Namespace) -> None:
    check_server_arguments(args)
    gallery = Gallery(args.gallery) if args.gallery else None
    served = load_served(args, batch_size=8, otherwise="images that are not 112x112 are refused")
    address = Address(args.host, args.port, args.allow_host)
    run_server(make_service(served._replace(gallery=gallery), address), args.host)
