"""Options of commands that embed pictures with a checkpoint."""

from vargfacenet.options import check_range


def add_embedding_options(parser):
    """Adds ``PREFIX --epoch --device --batch-size``."""
    parser.add_argument("prefix", metavar="PREFIX", help="as in PREFIX-symbol.json; any network of the lineage")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="as in PREFIX-000N.params (default 0)")
    add_device_options(parser)


def add_device_options(parser):
    """Adds ``--device --batch-size``."""
    parser.add_argument("--device", default="cpu:0", help="cpu:0 (default), gpu:N (MXNet) or cuda:N (PyTorch)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="pictures at a time (default 32)")


def checked_device(args):
    """The device (mx.Context) that these options name; SettingError or SetupError where one of them is out of range."""
    from vargfacenet.train.engine import parse_any_device

    check_range("--batch-size", args.batch_size, 1, 4096)
    check_range("--epoch", args.epoch, 0, 9999)
    return parse_any_device(args.device)
