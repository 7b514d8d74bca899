"""The command line: ``vargfacenet COMMAND``. Each command is a module with its parser and what it runs."""

import argparse
import difflib
import importlib
import logging
import os
import re
import sys

from vargfacenet import __version__
from vargfacenet.environment import explain_import_failure
from vargfacenet.errors import Stopped, VarGFaceNetError

COMMANDS = (
    "models",
    "summary",
    "data",
    "teach",
    "plan",
    "train",
    "launch",
    "verify",
    "challenge",
    "ijb",
    "identify",
    "convert",
    "prune",
    "export",
    "embed",
    "compare",
    "gallery",
    "demo",
    "bench",
    "zoo",
    "doctor",
)
_CHOICE = re.compile(
    r"argument (?P<what>COMMAND|ACTION): invalid choice: '(?P<given>.*)' \(choose from (?P<known>.*)\)"
)
DONE, BAD, REFUSED, INTERRUPTED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        choice = _CHOICE.fullmatch(message)
        if choice:
            known = re.findall(r"[\w-]+", choice["known"])
            near = difflib.get_close_matches(choice["given"], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"unknown {choice['what'].lower()} {choice['given']!r}: {hint}there are {', '.join(known)}"
        self.exit(REFUSED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs a command and returns its exit status: 0 done, 1 something checked is bad, 2 it cannot be carried out, 128 + N
    signal N has stopped it."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be of any bytes
    parser = _parser()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.exit(REFUSED, f"vargfacenet {args.command}: error: {_about_unknown(args, unknown)}\n")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        return args.run(args)
    except Stopped as stop:
        print(f"vargfacenet {args.command}: {stop}", file=sys.stderr)
        return stop.status
    except VarGFaceNetError as error:
        return _refuse(args, error, str(error))
    except KeyboardInterrupt:
        return _refuse(args, None, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MemoryError as error:
        return _refuse(args, error, "out of memory: try a smaller batch_size")
    except Exception as error:  # noqa: BLE001 - no traceback is ever shown unasked
        explained = explain_import_failure(error)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return _refuse(
            args,
            error,
            explained or f"unexpected {type(error).__name__}: {lines[-1] if lines else ''} (--debug shows where)",
        )


def _about_unknown(args, unknown):
    """The error for arguments that a command does not know."""
    name, _, value = unknown[0].partition("=")
    setting = name.lstrip("-").replace("-", "_")
    if args.command == "train" and name.startswith("--"):
        from vargfacenet.train.config import Config

        if setting in Config.__dataclass_fields__:
            # Without a recipe before it, the value was taken for the recipe.
            value = value or next(iter(unknown[1:]), args.recipe or "VALUE")
            return f"{name} is a setting: give --set {setting}={value} (see vargfacenet train --help)"
    return f"unrecognized arguments: {' '.join(unknown)} (see vargfacenet {args.command} --help)"


def _refuse(args, error, message, status=REFUSED):
    if getattr(args, "debug", False) and error is not None:
        logging.getLogger(__name__).error("details of the error", exc_info=error)
    message = " ".join(message.split())
    print(f"vargfacenet {args.command}: error: {message}", file=sys.stderr)
    return status


def _parser():
    parser = _Parser(prog="vargfacenet", description="Lightweight face recognition on Apache MXNet.")
    parser.add_argument("--version", action="version", version=f"vargfacenet {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    # Without a default of its own, so that a sub-command does not undo the flag of its command.
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name in COMMANDS:
        importlib.import_module(f"vargfacenet.commands.{name}").add_parser(commands, common)
    return parser
