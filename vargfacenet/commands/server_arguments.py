"""Arguments and the life of the commands that serve: ``demo`` and ``serve``."""

import argparse
import contextlib
import http.server
import logging
import pathlib
from collections.abc import Callable
from typing import Optional

from vargfacenet.commands.compare import add_threshold_argument, check_threshold
from vargfacenet.commands.model_arguments import (
    add_optional_model_argument,
    add_runtime_arguments,
    face_detector,
    load_face_model,
)
from vargfacenet.data.detector import FaceDetector
from vargfacenet.deploy.server import Served
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

log = logging.getLogger(__name__)


def add_server_arguments(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add MODEL, ``--threshold``, ``--host``, ``--port`` and the model's options; return the group of the server's."""
    add_optional_model_argument(parser)
    add_threshold_argument(parser)
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    server.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on (default: %(default)s; 0: any free one)"
    )
    add_runtime_arguments(parser)
    return server


def check_server_arguments(args: argparse.Namespace) -> None:
    """Raise SettingError where ``--port`` or ``--threshold`` is out of range."""
    check_range("--port", args.port, 0, 65535)
    check_threshold(args)


def load_served(args: argparse.Namespace, *, batch_size: int, otherwise: str) -> Served:
    """Load the model and, where it is installed, the detector of faces; the log says what happens `otherwise`."""
    model = load_face_model(args, threshold=args.threshold, batch_size=batch_size)
    return Served(model, pathlib.Path(args.model).name, _found_detector(otherwise))


def _found_detector(otherwise: str) -> Optional[FaceDetector]:
    try:
        return face_detector()
    except SetupError as error:
        log.info("%s; until then %s", error, otherwise)
        return None


def run_server(server: http.server.ThreadingHTTPServer, host: str) -> None:
    """Print the address of a server, and let it serve."""
    with server:
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        server.serve_forever()


def until_interrupted(serve: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is the way to stop it; return the exit status."""
    with contextlib.suppress(KeyboardInterrupt):
        serve(args)
    return 0
