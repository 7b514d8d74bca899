"""A member of a group: start the processes of one worker, supervise them, and end them with the group."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vargfacenet.errors import ClusterError
from vargfacenet.launch.coordinator import HEARTBEAT_SECONDS, Coordinator
from vargfacenet.launch.interrupts import STOPPED, Interrupts
from vargfacenet.launch.process import ERROR, Process
from vargfacenet.launch.transport import Link, Message, check_free, connect

RANK, SIZE = "VARGFACENET_RANK", "VARGFACENET_WORKERS"
_STOPPING = 3.0  # seconds for the coordinator to answer why to stop
_LEAVING = 2.0  # seconds for servers to end by themselves
_SERVE = [sys.executable, "-m", "vargfacenet.launch.serve"]


class GroupOptions(NamedTuple):
    """Options that all members of a group have in common.

    The member of worker 0 runs the coordinator on `port` and the scheduler of the parameter store on the next port. The
    worker of rank r listens on ``port + 2 + 2 r``, and its parameter server on ``port + 3 + 2 r``.

    Attributes
    ----------
    port
        See above.
    servers
        Number of members that start a parameter server, from rank 0 on; None for all.
    timeout
        Seconds until all members must have joined, after which a silent member counts as lost, and within which the
        parameter store must form.
    stall
        Seconds without progress after which workers that all wait count as stuck.
    """

    port: int
    servers: int | None = None
    timeout: float = 60.0
    stall: float = 600.0


def run_member(
    command: Sequence[str],
    *,
    rank: int,
    size: int,
    root: str,
    options: GroupOptions,
    parent_input: int | None = None,
    interrupts: Interrupts | None = None,
) -> int:
    """Run a command as one worker of a group, and return when all workers of the group have ended successfully.

    Stopping on request after saving counts as success; its status is 143.

    Parameters
    ----------
    command
        The worker's command line.
    rank, size
        Number of the worker, 0 .. size - 1, and of all workers.
    root
        Name or address of the machine of worker 0.
    options
        The same for all members.
    parent_input
        An open file at whose end the member stops: its standard input, where another process started it. Any line in it
        asks the worker to stop, as `interrupts` do.
    interrupts
        Signals to this process: the first asks the worker to stop, which then asks the other workers.

    Returns
    -------
    int
        The worker's status, 0 or 143.

    Raises
    ------
    ClusterError
        Where anything in the group has failed: what, and of which worker. All processes started here have ended by then.
    """
    port = options.port
    servers = size if options.servers is None else options.servers
    check_free([port + 1, *_ports(port, 0)] if rank == 0 else _ports(port, rank))
    with contextlib.ExitStack() as stack:
        if rank == 0:
            coordinator = Coordinator(port, size, options.timeout, options.stall)
            stack.callback(coordinator.close)
        link, messages = connect(root, port, options.timeout)
        stack.callback(link.close)
        if parent_input is not None:
            threading.Thread(target=_read_parent, args=(parent_input, messages), daemon=True).start()
        link.send({"rank": rank, "of": size})
        member = _Member(link, messages, rank, root, options, interrupts or Interrupts())
        address = member.wait_for("start")
        environment = {
            "DMLC_PS_ROOT_URI": address,
            "DMLC_PS_ROOT_PORT": str(port + 1),
            "DMLC_NUM_WORKER": str(size),
            "DMLC_NUM_SERVER": str(servers),
            "DMLC_NODE_HOST": address if rank == 0 else link.local_address,
        }
        stack.callback(member.end_all)
        if rank == 0:
            member.add("the scheduler of the parameter store", _SERVE, environment, role="scheduler")
        if rank < servers:
            member.add(f"the parameter server of worker {rank}", _SERVE, environment, role="server")
        member.add(f"worker {rank}", command, {**environment, RANK: str(rank), SIZE: str(size)}, role="worker")
        try:
            member.wait_for("finished")
        except ClusterError as error:
            member.end_all()
            member.show_other_errors(str(error))
            raise
        return member.let_end()


def _ports(port: int, rank: int) -> list[int]:
    """Return the ports of a worker and of its server."""
    return [port + 2 + 2 * rank, port + 3 + 2 * rank]


def _read_parent(descriptor: int, messages: queue.Queue[Message | None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(descriptor, 64):
            messages.put({"wind down": True})
    messages.put({"stop": "the process that started this member is gone"})


class _Member:
    """The processes of a member, and its connection to the coordinator."""

    def __init__(
        self,
        link: Link,
        messages: queue.Queue[Message | None],
        rank: int,
        root: str,
        options: GroupOptions,
        interrupts: Interrupts,
    ) -> None:
        self._interrupts, self._asked = interrupts, False
        self._link, self._messages, self._timeout = link, messages, options.timeout
        self._rank, self._port, self._coordinator = rank, options.port, f"{root}:{options.port}"
        self._processes: list[Process] = []
        self._worker: Process | None = None
        self._failure: str | None = None
        self._failed = math.inf  # when the failure was found
        self._heard = time.monotonic()
        self._errors: list[str] = []  # lines of the worker

    def add(self, label: str, command: Sequence[str], environment: Mapping[str, str], *, role: str) -> None:
        """Start a process with a role in the parameter store: scheduler, server or worker."""
        environment = {**environment, "DMLC_ROLE": role}
        if role == "scheduler":
            port = self._port + 1
        else:
            port = _ports(self._port, self._rank)[role == "server"]
            environment["PORT"] = str(port)
        if role == "worker":
            prefix = f"[{self._rank}] "
        else:
            prefix = f"[{self._rank} {role}] "
            environment["OMP_NUM_THREADS"] = "1"
        keep = self._hold if role == "worker" else None
        process = Process(label, command, environment=environment, prefix=prefix, keep=keep)
        self._processes.append(process)
        if role == "worker":
            self._worker = process

    def wait_for(self, key: str) -> Any:
        """Return the value of the next message with `key`, and report to the coordinator until it arrives.

        ClusterError where the group stops or the coordinator is lost.
        """
        while True:
            message: Message | None
            try:
                message = self._messages.get(timeout=HEARTBEAT_SECONDS)
            except queue.Empty:
                message = {}
            if message is None:  # CLOSED
                raise ClusterError(
                    f"the connection to worker 0 at {self._coordinator} was lost, or something else answers there"
                )
            if message:
                self._heard = time.monotonic()
            self._pass_on(message)
            if "stop" in message:
                raise ClusterError(message["stop"])
            if key in message:
                return message[key]
            if time.monotonic() - self._heard > self._timeout:
                raise ClusterError(f"nothing was heard of worker 0 at {self._coordinator} for {self._timeout:g} s")
            self._report()

    def let_end(self) -> int:
        """Wait briefly for the servers, which end when the last worker has left them, and return the worker's status."""
        limit = time.monotonic() + _LEAVING
        for process in self._processes:
            process.wait(max(0.0, limit - time.monotonic()))
        return (self._worker and self._worker.status) or 0

    def end_all(self) -> None:
        """End the processes that still run."""
        for process in self._processes:
            process.ask_to_end()
        for process in self._processes:
            process.end()

    def show_other_errors(self, reason: str) -> None:
        """Print the errors of this member's worker that are not the reason why the group stops, which is printed anyway."""
        for line in self._errors:
            if line.partition(ERROR)[2] not in reason:
                sys.stderr.write(f"[{self._rank}] {line}\n")
        sys.stderr.flush()

    def _hold(self, line: str) -> bool:
        """Hold back the line in which a command of this package says why it ends: all workers may make the same mistake."""
        if line.startswith("vargfacenet ") and ERROR in line:
            self._errors.append(line)
            return True
        return False

    def _pass_on(self, message: Message) -> None:
        """Ask the worker once to stop, where this member was asked. SIGINT would end a worker that is still preparing."""
        wanted = "wind down" in message or self._interrupts.number is not None
        if wanted and not self._asked and self._worker is not None:
            self._asked = True
            self._worker.signal(signal.SIGTERM)

    def _report(self) -> None:
        """Report the state of the processes to the coordinator."""
        if self._worker is None:
            self._link.send({})
        elif self._failure is None and self._worker.status in (0, STOPPED):
            self._link.send({"done": True})
        elif self._failure is None and self._find_failure() is None:
            self._link.send({"state": self._worker.state or ["starting", False]})
        else:
            self._link.send({"failed": self._failure})
            if time.monotonic() - self._failed > _STOPPING:  # the coordinator does not answer
                raise ClusterError(self._failure)

    def _find_failure(self) -> str | None:
        """Return what is wrong with a process of this member, or None."""
        for process in self._processes:
            silent = time.monotonic() - process.heard
            if process.status and not (process is self._worker and process.status == STOPPED):
                self._failure = process.fate()
            elif process.status is None and silent > self._timeout:
                self._failure = f"{process.label} has given no sign of life for {silent:.0f} s"
            if self._failure:
                self._failed = time.monotonic()
                break
        return self._failure
