"""``vargfacenet demo``: a page on this machine that compares two images."""

import argparse
import contextlib
import logging
import pathlib
from collections.abc import Callable

from vargfacenet.commands.model_options import add_model_options, face_detector, model_of
from vargfacenet.deploy.demo import make_server
from vargfacenet.errors import SetupError
from vargfacenet.options import check_range

log = logging.getLogger(__name__)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Serves a page on which two images are compared, to this machine alone unless --host says otherwise. "
        "Uploads are bounded and never stored. In images that are not 112x112 the face is found and aligned; without "
        "a detector they are cropped to their middle.",
    )
    add_model_options(parser, images=False)
    parser.add_argument(
        "--threshold", type=float, metavar="COSINE", help="above which two faces are one person, -1 .. 1"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="(default: %(default)s; 0: any that is free)"
    )
    parser.set_defaults(run=run)


def run(args):
    with contextlib.suppress(KeyboardInterrupt):  # which is how it ends
        _serve(args)
    return 0


def _serve(args):
    check_range("--port", args.port, 0, 65535)
    if args.threshold is not None:
        check_range("--threshold", args.threshold, -1, 1)
    # Two images are a batch: no more are ever embedded at once.
    model = model_of(args, threshold=args.threshold, batch_size=2)
    try:
        detector = face_detector()
    except SetupError as error:
        log.info("%s; until then the middle square of photographs is taken", error)
        detector = None
    name = pathlib.Path(args.model).name
    server = make_server(model, host=args.host, port=args.port, name=name, detector=detector)
    with server:
        print(f"http://{args.host}:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        server.serve_forever()
