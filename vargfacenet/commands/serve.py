"""``vargfacenet serve``: embeddings, comparisons and a search over HTTP."""

import argparse
import pathlib
from collections.abc import Callable

from vargfacenet.commands.compare import add_threshold_argument, check_threshold
from vargfacenet.commands.model_arguments import (
    add_optional_model_argument,
    add_runtime_arguments,
    load_face_model,
)
from vargfacenet.commands.server_arguments import (
    add_server_arguments,
    check_port,
    found_detector,
    run_server,
    until_interrupted,
)
from vargfacenet.deploy import Gallery
from vargfacenet.deploy.service import Served, make_service


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
    add_optional_model_argument(parser)
    add_threshold_argument(parser)
    parser.add_argument(
        "--gallery", metavar="FOLDER", help="search in this gallery of 'vargfacenet gallery', read once at the start"
    )
    server = add_server_arguments(parser)
    server.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="HOST",
        help="names by which requests may call this machine, in addition to addresses and localhost",
    )
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return until_interrupted(_serve, args)


def _serve(args: argparse.Namespace) -> None:
    check_port(args)
    check_threshold(args)
    gallery = Gallery(args.gallery) if args.gallery else None
    model = load_face_model(args, threshold=args.threshold, batch_size=8)
    detector = found_detector("images that are not 112x112 are refused")
    served = Served(model, pathlib.Path(args.model).name, detector, gallery)
    run_server(make_service(served, host=args.host, port=args.port, names=args.allow_host), args.host)
