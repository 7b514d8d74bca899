"""The command line: ``vargfacenet COMMAND``. Each command is a module with `add_parser` and a function that runs it."""

import argparse
import difflib
import functools
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from vargfacenet import __version__
from vargfacenet.commands.help_text import example_text, wrap
from vargfacenet.environment import explain_import_failure
from vargfacenet.errors import Stopped, VarGFaceNetError
from vargfacenet.formats.names import one_line
from vargfacenet.launch.heartbeat import start_heartbeat
from vargfacenet.progress import LogHandler

# A command's module is imported when the command runs: what it needs may take seconds to load.
GROUPS = {
    "networks": {
        "models": "list the trained networks that come with the package",
        "summary": "list a network's layers, parameters, FLOPs and size",
        "zoo": "compare all networks: published accuracy, parameters, FLOPs, milliseconds",
    },
    "training": {
        "data": "make and check training and verification sets",
        "teach": "store a teacher's embeddings of training sets",
        "plan": "predict the memory and the updates of a run",
        "train": "train a recipe, with checkpoints and verification on the way",
        "launch": "train with several workers, on one machine or on several",
        "runs": "list and compare runs: settings, scores, losses, curves",
    },
    "evaluation": {
        "verify": "score networks on verification sets (.bin), and write a report",
        "challenge": "write features of image lists, and compute TAR at FAR 1e-8 over all their pairs",
        "ijb": "run the IJB-B and IJB-C protocols, 1:1 and 1:N on templates",
        "identify": "measure rank-k and open-set identification of a folder of probes",
    },
    "deployment": {
        "convert": "rewrite a checkpoint, or weights from PyTorch, as a plain embedding network",
        "prune": "remove the least important filters of a trained network",
        "export": "write a checkpoint as an ONNX file, checked against MXNet",
        "embed": "write embeddings of images to an .npz file",
        "compare": "print the cosine of two faces, and a verdict",
        "gallery": "store faces of known people, and search among them",
        "demo": "serve a local page that compares two images",
        "serve": "serve embeddings, comparisons and a search over HTTP",
    },
    "this machine": {
        "bench": "measure the speed of everything on this machine, next to its rivals",
        "doctor": "print versions, devices and threads, and what is wrong with them",
    },
}
COMMANDS = {name: summary for commands in GROUPS.values() for name, summary in commands.items()}
_CHOICE = re.compile(
    r"argument (?P<what>COMMAND|ACTION): invalid choice: '(?P<given>.*)' \(choose from (?P<known>.*)\)"
)
DONE, BAD, REFUSED, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that suggests the nearest command for an unknown one."""

    def error(self, message: str) -> NoReturn:
        choice = _CHOICE.fullmatch(message)
        if choice:
            known = re.findall(r"[\w-]+", choice["known"])
            near = difflib.get_close_matches(choice["given"], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            message = f"unknown {choice['what'].lower()} {choice['given']!r}: {hint}there are {', '.join(known)}"
        self.exit(REFUSED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class CommandParser(Parser):
    """The parser of a command or of an action of a command.

    ``examples`` are command lines that follow the options in ``--help``. The description is wrapped, except for
    indented lines. With ``intermixed``, options may stand between positional arguments of which one is optional.
    """

    def __init__(
        self,
        *,
        examples: Sequence[str] = (),
        description: Optional[str] = None,
        intermixed: bool = False,
        **options: Any,
    ) -> None:
        self._intermixed = intermixed
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(description=wrap(description or ""), epilog=example_text(examples), **options)
        # Without a default of its own, so that an action does not undo the flag of its command.
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as the base class does; argparse itself calls it, also for the two passes of intermixed arguments."""
        # The first pass has no positional arguments, which help must list.
        if not self._intermixed or {"-h", "--help"} & set(args or ()):
            return super().parse_known_args(args, namespace)
        self._intermixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = True


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit status.

    0: done; 1: something checked is bad; 2: the command cannot be carried out; 128 + N: signal N has stopped it.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names may hold any bytes
    start_heartbeat()  # before the command loads MXNet, which takes seconds
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[LogHandler()]
    )
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where it caches fonts
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments:
        command_line(None).print_help(sys.stderr)
        return REFUSED
    args = argparse.Namespace(command=_command_in(arguments), debug="--debug" in arguments)
    try:
        args = parse(arguments, args)
        return args.run(args)
    except Stopped as stop:
        print(f"vargfacenet {args.command}: {stop}", file=sys.stderr)
        return stop.status
    except VarGFaceNetError as error:
        return _refuse(args, error, str(error))
    except KeyboardInterrupt:
        return _refuse(args, None, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except MemoryError as error:
        return _refuse(args, error, "out of memory: try a smaller batch_size")
    except Exception as error:  # noqa: BLE001 - a traceback is shown only on request
        explained = explain_import_failure(error)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return _refuse(
            args,
            error,
            explained or f"unexpected {type(error).__name__}: {lines[-1] if lines else ''} (--debug shows where)",
        )


def parse(arguments: Sequence[str], namespace: Optional[argparse.Namespace] = None) -> argparse.Namespace:
    """Return the parsed arguments of a command; exit with one line and status 2 where they are wrong."""
    parser = command_line(_command_in(arguments))
    args, unknown = parser.parse_known_args(arguments, namespace)
    if unknown:
        parser.exit(REFUSED, f"vargfacenet {args.command}: error: {_about_unknown(args, unknown)}\n")
    return args


def command_line(chosen: Optional[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, complete for the command `chosen`; the others have no options."""
    parser = Parser(
        prog="vargfacenet",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Lightweight face recognition on Apache MXNet.",
        epilog=f"{_command_list()}\n\nvargfacenet COMMAND --help describes a command and gives examples.",
    )
    parser.add_argument("--version", action="version", version=f"vargfacenet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=CommandParser)
    for name in COMMANDS:
        if name == chosen:
            module = importlib.import_module(f"vargfacenet.commands.{name}")
            module.add_parser(functools.partial(commands.add_parser, name))
        else:
            commands.add_parser(name)
    return parser


def _command_list() -> str:
    width = max(map(len, COMMANDS))
    parts = []
    for group, commands in GROUPS.items():
        parts.append("\n".join([f"{group}:", *(f"  {name:<{width}}  {about}" for name, about in commands.items())]))
    return "\n\n".join(parts)


def _command_in(arguments: Sequence[str]) -> Optional[str]:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _about_unknown(args: argparse.Namespace, unknown: Sequence[str]) -> str:
    """Return the error for arguments that a command does not know."""
    name, _, value = unknown[0].partition("=")
    setting = name.lstrip("-").replace("-", "_")
    if args.command == "train" and name.startswith("--"):
        from vargfacenet.train.config import setting_names  # here, because it takes a second to load

        if setting in setting_names():
            # Without a recipe before it, the value was taken for the recipe.
            value = value or next(iter(unknown[1:]), args.recipe or "VALUE")
            return f"{name} is a setting: give --set {setting}={value} (see vargfacenet train --help)"
    action = f" {args.action}" if getattr(args, "action", None) else ""
    return f"unrecognized arguments: {' '.join(unknown)} (see vargfacenet {args.command}{action} --help)"


def _refuse(args: argparse.Namespace, error: Optional[BaseException], message: str, status: int = REFUSED) -> int:
    if getattr(args, "debug", False) and error is not None:
        logging.getLogger(__name__).error("details of the error", exc_info=error)
    message = one_line(" ".join(message.split()))
    print(f"vargfacenet {args.command}: error: {message}", file=sys.stderr)
    return status
