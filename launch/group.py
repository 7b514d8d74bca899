"""Start all members of a group from one place: on this machine, or over ssh on others."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence

from vargfacenet.errors import ClusterError, DataError
from vargfacenet.formats.files import PathLike, read_bytes
from vargfacenet.launch.interrupts import STOPPED, Interrupts
from vargfacenet.launch.process import ERROR, Process

_REPORTING = 3.0  # seconds for members to report why the group stopped, and to end
REPORT = f"vargfacenet launch{ERROR}"  # begins the line in which a member reports why the group stopped


def read_hosts(path: PathLike) -> list[str]:
    """Return the machines that a file names, one per line; empty lines and text after ``#`` are ignored.

    DataError where the file cannot be read, names no machine, or a line is more than a name.
    """
    hosts = []
    for number, line in enumerate(read_bytes(path, limit=1 << 20).decode("utf-8", "replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1 or any(word.startswith("-") for word in words):
            raise DataError(f"{path}, line {number}: {line.strip()!r}: expected one host, such as node1 or user@node1")
        hosts += words
    if not hosts:
        raise DataError(f"{path} names no host: expected one a line")
    return hosts


def local_commands(options: Sequence[str], size: int, command: Sequence[str]) -> list[list[str]]:
    """Return the command line of each member on this machine.

    `options` are those of ``vargfacenet launch`` that all members have; `command` is what the workers run.
    """
    return [_member(sys.executable, rank, size, "127.0.0.1", options, command) for rank in range(size)]


def remote_commands(
    options: Sequence[str],
    hosts: Sequence[str],
    command: Sequence[str],
    *,
    root: str | None = None,
    ssh: str = "ssh",
    python: str | None = None,
    directory: PathLike,
) -> list[list[str]]:
    """Return the command line, beginning with `ssh`, of each member on a machine of its own.

    Parameters
    ----------
    options, command
        As for `local_commands`.
    hosts
        As ssh takes them; the first runs worker 0.
    root
        Name or address by which the machines reach the first one; its name by default.
    ssh
        The ssh command and its options.
    python
        Python of the environment there; by default the same path as here.
    directory
        Where to run there.
    """
    root = root or hosts[0].rpartition("@")[2]
    lines = []
    for rank, host in enumerate(hosts):
        member = _member(python or sys.executable, rank, len(hosts), root, options, command)
        there = f"cd {shlex.quote(str(directory))} && exec {' '.join(map(shlex.quote, member))}"
        lines.append([*shlex.split(ssh), host, there])
    return lines


def run_group(
    commands: Sequence[Sequence[str]],
    *,
    environment: Mapping[str, str] | None = None,
    interrupts: Interrupts | None = None,
) -> int:
    """Run all members, print their output, and return when all have ended successfully.

    Stopping on request after saving counts as success; its status is 143.

    Parameters
    ----------
    commands
        The members' command lines.
    environment
        Variables that they have in addition to those of this process.
    interrupts
        Signals to this process: after the first the workers are asked to stop.

    Returns
    -------
    int
        The largest status of the members, 0 or 143.

    Raises
    ------
    ClusterError
        Where a member has failed: its own report, or how it ended. All members have ended by then.
    """
    reports: list[str] = []
    members: list[Process] = []

    def keep(line: str) -> bool:
        found = line.startswith(REPORT)
        if found:
            reports.append(line[len(REPORT) :])
        return found

    try:
        for rank, command in enumerate(commands):
            try:
                label = f"the member of worker {rank}"
                members.append(Process(label, command, environment=environment, keep=keep, heartbeat=False))
            except OSError as error:
                raise ClusterError(f"{command[0]} cannot be run: {error.strerror or error}") from error
        ended = _first_failure(members, interrupts or Interrupts())
        if ended is None:
            return max(member.status or 0 for member in members)
        fate = ended.fate()
        limit = time.monotonic() + _REPORTING
        for member in members:
            member.wait(max(0.0, limit - time.monotonic()))
        raise ClusterError(reports[0] if reports else fate)
    finally:
        for member in members:
            member.ask_to_end()
        for member in members:
            member.end(grace=15.0)


def _first_failure(members: Sequence[Process], interrupts: Interrupts) -> Process | None:
    """Return the first member that fails, or None when all have ended successfully."""
    asked = False
    while True:
        if interrupts.number is not None and not asked:
            asked = True
            for member in members:
                member.tell("stop\n")
        statuses = [member.status for member in members]
        for member, status in zip(members, statuses):
            if status and status != STOPPED:
                return member
        if None not in statuses:
            return None
        time.sleep(0.1)


def _member(python: str, rank: int, size: int, root: str, options: Sequence[str], command: Sequence[str]) -> list[str]:
    place = ["--rank", str(rank), "--of", str(size), "--root", root]
    return [python, "-m", "vargfacenet", "launch", *place, *options, "--", *command]
