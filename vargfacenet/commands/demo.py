"""``vargfacenet demo``: a local page that compares two images."""

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
from vargfacenet.deploy.demo import make_server


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
    add_optional_model_argument(parser)
    add_threshold_argument(parser)
    add_server_arguments(parser)
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return until_interrupted(_serve, args)


def _serve(args: argparse.Namespace) -> None:
    check_port(args)
    check_threshold(args)
    # A request embeds two images, never more.
    model = load_face_model(args, threshold=args.threshold, batch_size=2)
    detector = found_detector("photographs are cropped to their middle square")
    name = pathlib.Path(args.model).name
    run_server(make_server(model, host=args.host, port=args.port, name=name, detector=detector), args.host)
