"""``vargfacenet demo``: a local page that compares two images."""

import argparse
import contextlib
import logging
import pathlib
from collections.abc import Callable

from vargfacenet.commands.compare import add_threshold_argument, check_threshold
from vargfacenet.commands.model_arguments import (
    add_model_argument,
    add_runtime_arguments,
    face_detector,
    load_face_model,
)
from vargfacenet.deploy.demo import make_server
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

log = logging.getLogger(__name__)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Serve a page that compares two images. Only this machine reaches it, unless --host says otherwise. "
        "Uploads are bounded and never stored. In images that are not 112x112 the face is found and aligned; without a "
        "detector they are cropped to their middle.",
        examples=(
            "vargfacenet demo vargfacenet-x050",
            "vargfacenet demo student.onnx --port 8080 --threshold 0.35",
        ),
    )
    add_model_argument(parser)
    add_threshold_argument(parser)
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    server.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on (default: %(default)s; 0: any free one)"
    )
    add_runtime_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the way to stop it
        _serve(args)
    return 0


def _serve(args: argparse.Namespace) -> None:
    check_range("--port", args.port, 0, 65535)
    check_threshold(args)
    # A request embeds two images, never more.
    model = load_face_model(args, threshold=args.threshold, batch_size=2)
    try:
        detector = face_detector()
    except SetupError as error:
        log.info("%s; until then photographs are cropped to their middle square", error)
        detector = None
    name = pathlib.Path(args.model).name
    server = make_server(model, host=args.host, port=args.port, name=name, detector=detector)
    with server:
        print(f"http://{args.host}:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        server.serve_forever()
