"""Arguments and the life of the commands that serve: ``demo`` and ``serve``."""

import argparse
import contextlib
import http.server
import logging
from collections.abc import Callable
from typing import Optional

from vargfacenet.commands.model_arguments import face_detector
from vargfacenet.data.detector import FaceDetector
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

log = logging.getLogger(__name__)


def add_server_arguments(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Add ``--host`` and ``--port``, in a group of their own, which is returned."""
    server = parser.add_argument_group("server")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    server.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on (default: %(default)s; 0: any free one)"
    )
    return server


def check_port(args: argparse.Namespace) -> None:
    """Raise SettingError where ``--port`` is out of range."""
    check_range("--port", args.port, 0, 65535)


def found_detector(otherwise: str) -> Optional[FaceDetector]:
    """Return the detector of faces; None where it is not installed, and the log says what happens `otherwise`."""
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
