"""Arguments that several commands share, each with one meaning everywhere, and old spellings that still work."""

import argparse
import logging
from collections.abc import Sequence
from typing import Any, Union

from vargfacenet.commands.output import BARE
from vargfacenet.engines import parse_any_device
from vargfacenet.options import check_range

log = logging.getLogger(__name__)

# A parser or a group of its arguments.
Arguments = Union[argparse.ArgumentParser, "argparse._ArgumentGroup"]


class _OldSpelling(argparse.Action):
    """Stores a value as the option that replaces it would, and logs the new spelling."""

    def __init__(self, *args: Any, new: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Union[str, None] = None,
    ) -> None:
        log.warning("%s is deprecated and will be removed in the next version: give %s", option_string, self.new)
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)


def keep_old_spelling(parser: Arguments, old: str, *, new: str, dest: str, **options: Any) -> None:
    """Add a hidden option `old` that stores into `dest` and logs the spelling `new`; it goes with the next version."""
    options.setdefault("default", argparse.SUPPRESS)
    parser.add_argument(old, dest=dest, action=_OldSpelling, new=new, help=argparse.SUPPRESS, **options)


def add_device_argument(parser: Arguments, *, several: bool = False) -> None:
    """Add ``--device``: a list for commands that run on `several` devices, otherwise one."""
    one = "cpu:0 (default), gpu:N (MXNet) or cuda:N (PyTorch)"
    text = f"devices, separated by commas: {one}" if several else one
    parser.add_argument("--device", default="cpu:0", metavar="LIST" if several else "DEVICE", help=text)
    keep_old_spelling(parser, "--devices", new="--device", dest="device")


def add_embedding_arguments(parser: Arguments) -> None:
    """Add ``--device`` and ``--batch-size``."""
    add_device_argument(parser)
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at a time (default 32)")


def checked_device(args: argparse.Namespace) -> Any:
    """Return the device of ``--device``; SettingError or SetupError where it or ``--batch-size`` is out of range."""
    check_range("--batch-size", args.batch_size, 1, 4096)
    return parse_any_device(args.device)


def add_set_argument(parser: Arguments, *, what: str, example: str) -> None:
    """Add ``--set NAME=VALUE ...``, the settings of a network or a recipe."""
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=f"{what}, such as {example}"
    )


def add_json_argument(parser: Arguments, *, bare: bool = False) -> None:
    """Add ``--json FILE``; `bare` allows the deprecated ``--json`` without a file, which `json_writer` understands."""
    optional: dict[str, Any] = {"nargs": "?", "const": BARE} if bare else {}
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the results to this file too, or with - to standard output alone",
        **optional,
    )


def add_markdown_argument(parser: Arguments) -> None:
    """Add ``--markdown FILE``."""
    parser.add_argument("--markdown", metavar="FILE", help="write the tables to this file too, in Markdown")
