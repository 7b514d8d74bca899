"""``vargfacenet demo``: a page on this machine that compares two pictures."""

import contextlib

from vargfacenet.commands.compare import verdict
from vargfacenet.commands.models import add_model_options, model_of
from vargfacenet.options import check_range


def add_parser(commands, common):
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="a local page that compares two pictures",
        description="Serves a page on which two pictures are compared, to this machine alone unless --host says otherwise. "
        "Uploads are bounded and never stored. Pictures that are not 112x112 are cropped to their middle.",
    )
    add_model_options(parser, crop=False)
    parser.add_argument(
        "--threshold", type=float, metavar="COSINE", help="from which two faces are one person, -1 .. 1"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="(default: %(default)s; 0: any that is free)"
    )
    parser.set_defaults(run=run)


def run(args):
    from vargfacenet.deploy.demo import make_server

    check_range("--port", args.port, 0, 65535)
    if args.threshold is not None:
        check_range("--threshold", args.threshold, -1, 1)
    # Two pictures are a batch: no more are ever embedded at once.
    model = model_of(args, threshold=args.threshold, batch_size=2)
    server = make_server(model, host=args.host, port=args.port, describe=verdict)
    with server:
        print(f"http://{args.host}:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
