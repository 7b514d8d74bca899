"""``vargfacenet launch``: one training run by several workers, on this machine or on several."""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Sequence

from vargfacenet.environment import usable_cores
from vargfacenet.errors import ClusterError, SettingError, Stopped
from vargfacenet.launch.group import local_commands, read_hosts, remote_commands, run_group
from vargfacenet.launch.interrupts import Interrupts
from vargfacenet.launch.member import GroupOptions, run_member
from vargfacenet.options import check_range

PORT = 9091


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Run 'vargfacenet train' in several workers. Each takes a part of each batch, and their gradients are "
        "summed on MXNet's parameter server. When a worker dies, all stop and say which. --local tries it on this machine, "
        "--hosts starts a worker on each host over ssh, and --rank is for one command per machine, by hand or by a "
        "scheduler.\n\n"
        "After SIGINT (Ctrl-C) or SIGTERM, here or on any worker's machine, the run finishes the current update, saves, and "
        "ends with status 130 or 143. A second signal stops all at once.",
        examples=(
            "vargfacenet launch --local 2 -- train demo_student_scratch",
            "vargfacenet launch --hosts hosts.txt -- train student_scratch --data faces_emore",
            "vargfacenet launch --rank 0 --of 2 --root node1 -- train student_scratch --data faces_emore",
        ),
    )
    workers = parser.add_argument_group("workers")
    where = workers.add_mutually_exclusive_group(required=True)
    where.add_argument("--local", type=int, metavar="N", help="this many workers on this machine")
    where.add_argument(
        "--hosts", metavar="FILE", help="file with one host on each line, as ssh takes it; the first has worker 0"
    )
    where.add_argument(
        "--rank", type=int, metavar="R", help="number of this worker; worker 0 is the only one that writes to --out"
    )
    workers.add_argument("--of", type=int, metavar="N", help="with --rank: number of workers")
    workers.add_argument("--root", metavar="HOST", help="name or address at which workers reach worker 0's machine")
    limits = parser.add_argument_group("ports and limits")
    limits.add_argument(
        "--port",
        type=int,
        default=PORT,
        metavar="P",
        help=f"first of the ports used, the same for all (default {PORT})",
    )
    limits.add_argument(
        "--servers", type=int, metavar="S", help="number of workers that also run a parameter server (default: all)"
    )
    limits.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time until all workers must be there, and silence after which one counts as dead (default 60)",
    )
    limits.add_argument(
        "--stall",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="time without progress of any worker after which they count as stuck; more than an update takes (default 600)",
    )
    remote = parser.add_argument_group("hosts")
    remote.add_argument(
        "--ssh", default="ssh -o BatchMode=yes", metavar="COMMAND", help="command that runs ssh (default: %(default)s)"
    )
    remote.add_argument(
        "--python", metavar="PATH", help="with --hosts: Python on the hosts (default: the same path as here)"
    )
    remote.add_argument(
        "--directory", metavar="DIR", help="with --hosts: working folder on the hosts (default: the same as here)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the command of each worker's machine and stop")
    parser.add_argument("--tied", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("trained", metavar="-- train RECIPE ...", nargs=argparse.REMAINDER, help="what the workers run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    command = args.trained[1:] if args.trained[:1] == ["--"] else args.trained
    if command[:1] != ["train"]:
        raise SettingError("expected what the workers run, such as: vargfacenet launch --local 2 -- train demo_teacher")
    hosts = read_hosts(args.hosts) if args.hosts is not None else []
    size = args.of if args.rank is not None else args.local if args.local is not None else len(hosts)
    _check(args, size)
    options = GroupOptions(args.port, args.servers or size, args.timeout, args.stall)
    interrupts = Interrupts().listen()
    try:
        if args.rank is not None:
            status = _be_member(args, command, size, options, interrupts)
        else:
            status = _be_all(args, command, size, hosts, options, interrupts)
    except ClusterError as error:
        if interrupts.number is None:
            raise
        raise Stopped(str(error), interrupts.number) from error
    if status and interrupts.number is not None:
        raise Stopped(f"stopped by {signal.Signals(interrupts.number).name}", interrupts.number)
    return status


def _be_member(
    args: argparse.Namespace, command: list[str], size: int, options: GroupOptions, interrupts: Interrupts
) -> int:
    worker = [sys.executable, "-m", "vargfacenet", *command]
    if args.dry_run:
        print(_shown(worker))
        return 0
    parent_input = sys.stdin.fileno() if args.tied else None
    return run_member(
        worker,
        rank=args.rank,
        size=size,
        root=args.root,
        options=options,
        parent_input=parent_input,
        interrupts=interrupts,
    )


def _be_all(
    args: argparse.Namespace,
    command: list[str],
    size: int,
    hosts: list[str],
    options: GroupOptions,
    interrupts: Interrupts,
) -> int:
    words = [word for name, value in options._asdict().items() for word in (f"--{name}", f"{value:g}")]
    words += [] if args.dry_run else ["--tied"]
    environment = {}
    if hosts:
        where = {"ssh": args.ssh, "python": args.python, "directory": args.directory or pathlib.Path.cwd()}
        members = remote_commands(words, hosts, command, root=args.root, **where)
    else:
        members = local_commands(words, size, command)
        # Workers that share a machine share its cores.
        if "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] == str(usable_cores()):
            environment["OMP_NUM_THREADS"] = str(max(1, usable_cores() // size))
    if args.dry_run:
        for member in members:
            print(_shown(member))
        return 0
    return run_group(members, environment=environment, interrupts=interrupts)


def _check(args: argparse.Namespace, size: int) -> None:
    """Raise SettingError where options are out of range or do not go together."""
    if args.rank is not None and (args.of is None or args.root is None):
        raise SettingError("--rank needs --of N, the number of workers, and --root HOST, the machine of worker 0")
    if args.rank is None and args.of is not None:
        raise SettingError("--of goes with --rank")
    check_range("--of" if args.rank is not None else "--local" if args.local is not None else "hosts", size, 1, 1024)
    if args.rank is not None:
        check_range("--rank", args.rank, 0, size - 1)
    check_range("--port", args.port, 1024, 65535 - 2 - 2 * size)
    check_range("--timeout", args.timeout, 1, 86_400, "seconds")
    check_range("--stall", args.stall, 1, 86_400, "seconds")
    if args.servers is not None:
        check_range("--servers", args.servers, 1, size)


def _shown(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))
