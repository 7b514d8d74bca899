"""The command line: ``vargfacenet COMMAND``. Each command is a module with its parser and what it runs."""

import argparse
import difflib
import functools
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Optional

from vargfacenet import __version__
from vargfacenet.environment import explain_import_failure
from vargfacenet.errors import Stopped, VarGFaceNetError
from vargfacenet.launch.heartbeat import start_heartbeat

# A command's module is imported when the command runs: what it needs may take seconds to load.
COMMANDS = {
    "models": "list the trained networks that come with the package",
    "summary": "layers, parameters, FLOPs and size of a network",
    "data": "make and check training and verification sets",
    "teach": "store a teacher's embeddings of training sets",
    "plan": "the memory and the updates that a run will take",
    "train": "train a recipe; save and verify on the way",
    "launch": "train with several workers, on one machine or on several",
    "verify": "score checkpoints or ONNX files on verification sets (.bin), and write a report",
    "challenge": "features of image lists, and TPR at FPR 1e-8 of all their pairs",
    "ijb": "IJB-B and IJB-C: 1:1 and 1:N on templates",
    "identify": "rank-k and open-set identification: a folder of probes against a folder of known people",
    "convert": "write any checkpoint of the lineage as a plain embedding network",
    "export": "write a checkpoint as an ONNX file that is proved equal",
    "embed": "embeddings of images, into an .npz file",
    "compare": "cosine of two faces, and a verdict",
    "gallery": "keep known faces, and search among them",
    "demo": "a local page that compares two images",
    "bench": "measure how fast everything is here, next to its rivals",
    "doctor": "versions, devices and threads, and what is wrong with them",
}
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


class _CommandParser(_Parser):
    """The parser of a command or of its action: each takes ``--debug``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Without a default of its own, so that an action does not undo the flag of its command.
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
        )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit status.

    0: done; 1: something checked is bad; 2: the command cannot be carried out; 128 + N: signal N has stopped it.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names may hold any bytes
    start_heartbeat()  # before the command loads MXNet, which takes seconds
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    args = argparse.Namespace(command=chosen, debug="--debug" in arguments)
    try:
        parser = _parser(chosen)
        args, unknown = parser.parse_known_args(arguments, args)
        if unknown:
            parser.exit(REFUSED, f"vargfacenet {args.command}: error: {_about_unknown(args, unknown)}\n")
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
        from vargfacenet.train.config import setting_names

        if setting in setting_names():
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


def _parser(chosen: Optional[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, complete for the command `chosen` and with a line for each other."""
    parser = _Parser(prog="vargfacenet", description="Lightweight face recognition on Apache MXNet.")
    parser.add_argument("--version", action="version", version=f"vargfacenet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_CommandParser)
    for name, summary in COMMANDS.items():
        add = functools.partial(commands.add_parser, name, help=summary)
        if name == chosen:
            importlib.import_module(f"vargfacenet.commands.{name}").add_parser(add)
        else:
            add()
    return parser
