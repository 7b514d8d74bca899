"""All members of a group from one place: on this machine, or over ssh on others."""

import shlex
import sys
import time

from vargfacenet.errors import ClusterError, DataError
from vargfacenet.formats.files import read_bytes
from vargfacenet.launch.interrupts import STOPPED, Interrupts
from vargfacenet.launch.process import ERROR, Process

_TELLING = 3.0  # seconds for members to say why the group stopped, and to end
REPORT = f"vargfacenet launch{ERROR}"  # what a member's line begins with when it says why the group stopped


def read_hosts(path):
    """The machines that a file names, one a line (list of str); empty lines and what follows ``#`` are left out.

    Raises
    ------
    DataError
        Where it cannot be read, names none, or a line is more than a name.
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


def local_commands(options, size, command):
    """The command line of each member on this machine (list of lists of str).

    `options` are those of ``vargfacenet launch`` that all members have; `command` is what workers run.
    """
    return [_member(sys.executable, rank, size, "127.0.0.1", options, command) for rank in range(size)]


def remote_commands(options, hosts, command, *, root=None, ssh="ssh", python=None, directory):
    """The command line, beginning with `ssh`, of each member on a machine of its own (list of lists of str).

    Parameters
    ----------
    options, command : list of str
        As of `local_commands`.
    hosts : list of str
        As ssh takes them; the first has worker 0.
    root : str, optional
        Name or address by which the machines reach the first one; its name by default.
    ssh : str
        The ssh command and its options.
    python : str, optional
        Python of the environment there; by default the same path as here.
    directory : path
        Where to run there.
    """
    root = root or hosts[0].rpartition("@")[2]
    lines = []
    for rank, host in enumerate(hosts):
        member = _member(python or sys.executable, rank, len(hosts), root, options, command)
        there = f"cd {shlex.quote(str(directory))} && exec {' '.join(map(shlex.quote, member))}"
        lines.append([*shlex.split(ssh), host, there])
    return lines


def run_group(commands, *, environment=None, interrupts=None):
    """Runs all members, passes on what they print, and returns when all have ended well.

    They have also when their workers stopped because they were asked to, and saved: status 143.

    Parameters
    ----------
    commands : list of lists of str
        The members' command lines.
    environment : dict of str to str, optional
        Variables that they have besides this process's.
    interrupts : Interrupts, optional
        Signals to this process: at the first the workers are asked to stop.

    Returns
    -------
    int
        The largest of the members' statuses, 0 or 143.

    Raises
    ------
    ClusterError
        When one has not ended well: what it said, or how it ended. All have ended then.
    """
    reports, members = [], []

    def keep(line):
        found = line.startswith(REPORT)
        if found:
            reports.append(line[len(REPORT) :])
        return found

    try:
        for rank, command in enumerate(commands):
            try:
                label = f"the member of worker {rank}"
                members.append(Process(label, command, environment=environment, keep=keep, beats=False))
            except OSError as error:
                raise ClusterError(f"{command[0]} cannot be run: {error.strerror or error}") from error
        ended = _first_failure(members, interrupts or Interrupts())
        if ended is None:
            return max(member.status for member in members)
        fate = ended.fate()
        limit = time.monotonic() + _TELLING
        for member in members:
            member.wait(max(0.0, limit - time.monotonic()))
        raise ClusterError(reports[0] if reports else fate)
    finally:
        for member in members:
            member.ask_to_end()
        for member in members:
            member.end(grace=15.0)


def _first_failure(members, interrupts):
    """The first member that ends badly; None when all have ended well."""
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


def _member(python, rank, size, root, options, command):
    place = ["--rank", str(rank), "--of", str(size), "--root", root]
    return [python, "-m", "vargfacenet", "launch", *place, *options, "--", *command]
