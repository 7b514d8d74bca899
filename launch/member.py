"""A member of a group: the processes of one worker, started with the others', watched, and ended with them."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time

from vargfacenet.errors import ClusterError
from vargfacenet.launch.hub import BEAT, Hub
from vargfacenet.launch.interrupts import STOPPED, Interrupts
from vargfacenet.launch.process import Process
from vargfacenet.launch.wire import CLOSED, call, check_free

RANK, SIZE = "VARGFACENET_RANK", "VARGFACENET_WORKERS"
_STOPPING = 3.0  # seconds to hear from the hub why to stop
_LEAVING = 2.0  # seconds for servers to end by themselves
_SERVE = [sys.executable, "-m", "vargfacenet.launch.serve"]


def run_member(command, *, rank, size, root, port, servers=None, timeout=60.0, stall=600.0, tied=None, interrupts=None):
    """Runs a command as one worker of a group, and returns when the workers of the whole group have ended well.

    They have also when they stopped because they were asked to, and saved: status 143.

    Worker 0's member has the hub on `port` and the scheduler of the parameter store on the next one; the worker of rank r
    listens on ``port + 2 + 2 r``, and its parameter server, which the first `servers` members start, on ``port + 3 + 2 r``.

    Parameters
    ----------
    command : list of str
        The worker's command line.
    rank, size : int
        Which worker, 0 .. size - 1, and how many there are.
    root : str
        Name or address of worker 0's machine.
    port : int
        See above; the same for all.
    servers : int, optional
        Members that start a parameter server; all by default.
    timeout : float
        Seconds until all members must be there, after which one counts as gone of which nothing is heard, and within
        which the parameter store must form.
    stall : float
        Seconds after which workers that all wait, and none of whom gets on, count as stuck.
    tied : int, optional
        An open file at whose end the member stops: the standard input of one that another process started. Any line in it
        asks the worker to stop, as `interrupts` do.
    interrupts : Interrupts, optional
        Signals to this process: the first asks the worker to stop, which then asks the others'.

    Returns
    -------
    int
        The worker's status, 0 or 143.

    Raises
    ------
    ClusterError
        When anything of the group has failed: what, and of which worker. All processes started here have ended then.
    """
    servers = size if servers is None else servers
    check_free([port + 1, *_ports(port, 0)] if rank == 0 else _ports(port, rank))
    with contextlib.ExitStack() as stack:
        if rank == 0:
            hub = Hub(port, size, timeout, stall)
            stack.callback(hub.close)
        link, messages = call(root, port, timeout)
        stack.callback(link.close)
        if tied is not None:
            threading.Thread(target=_watch_end, args=(tied, messages), daemon=True).start()
        link.send({"rank": rank, "of": size})
        member = _Member(link, messages, rank, root, port, timeout, interrupts or Interrupts())
        address = member.wait_for("start")
        environment = {
            "DMLC_PS_ROOT_URI": address,
            "DMLC_PS_ROOT_PORT": str(port + 1),
            "DMLC_NUM_WORKER": str(size),
            "DMLC_NUM_SERVER": str(servers),
            "DMLC_NODE_HOST": address if rank == 0 else link.near,
        }
        stack.callback(member.end_all)
        if rank == 0:
            member.add("the scheduler of the parameter store", _SERVE, environment, role="scheduler")
        if rank < servers:
            member.add(f"the parameter server of worker {rank}", _SERVE, environment, role="server")
        member.add(f"worker {rank}", command, {**environment, RANK: str(rank), SIZE: str(size)}, role="worker")
        member.wait_for("finished")
        return member.let_end()


def _ports(port, rank):
    """Ports of a worker and its server."""
    return [port + 2 + 2 * rank, port + 3 + 2 * rank]


def _watch_end(descriptor, messages):
    with contextlib.suppress(OSError):
        while os.read(descriptor, 64):
            messages.put({"wind down": True})
    messages.put({"stop": "whoever started this member is gone"})


class _Member:
    """The processes of a member, and its connection to the hub."""

    def __init__(self, link, messages, rank, root, port, timeout, interrupts):
        self._interrupts, self._asked = interrupts, False
        self._link, self._messages, self._timeout = link, messages, timeout
        self._rank, self._port, self._hub = rank, port, f"{root}:{port}"
        self._processes, self._worker = [], None
        self._failure, self._failed = None, None
        self._heard = time.monotonic()

    def add(self, label, command, environment, *, role):
        """Starts a process that has a role in the parameter store: scheduler, server or worker."""
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
        process = Process(label, command, environment=environment, prefix=prefix)
        self._processes.append(process)
        if role == "worker":
            self._worker = process

    def wait_for(self, key):
        """The value of the next message from the hub that has `key`; all the while the hub is told how things are here.

        Raises
        ------
        ClusterError
            Where the group stops, or the hub is gone.
        """
        while True:
            try:
                message = self._messages.get(timeout=BEAT)
            except queue.Empty:
                message = {}
            if message is CLOSED:
                raise ClusterError(
                    f"the connection to worker 0 at {self._hub} was lost, or something else answers there"
                )
            if message:
                self._heard = time.monotonic()
            self._pass_on(message)
            if "stop" in message:
                raise ClusterError(message["stop"])
            if key in message:
                return message[key]
            if time.monotonic() - self._heard > self._timeout:
                raise ClusterError(f"nothing was heard of worker 0 at {self._hub} for {self._timeout:g} s")
            self._tell()

    def let_end(self):
        """Waits a little for the servers, which end by themselves when the last worker has left them; the worker's status
        (int)."""
        limit = time.monotonic() + _LEAVING
        for process in self._processes:
            process.wait(max(0.0, limit - time.monotonic()))
        return self._worker.status

    def end_all(self):
        """Ends what still runs."""
        for process in self._processes:
            process.ask_to_end()
        for process in self._processes:
            process.end()

    def _pass_on(self, message):
        """Asks the worker to stop, once, when this member was asked: by SIGTERM, as SIGINT would end it while it prepares."""
        wanted = "wind down" in message or self._interrupts.number is not None
        if wanted and not self._asked and self._worker is not None:
            self._asked = True
            self._worker.signal(signal.SIGTERM)

    def _tell(self):
        """Tells the hub how the processes here are."""
        if self._worker is None:
            self._link.send({})
        elif self._failure is None and self._worker.status in (0, STOPPED):
            self._link.send({"done": True})
        elif self._failure is None and self._find_failure() is None:
            self._link.send({"state": self._worker.state or ["starting", False]})
        else:
            self._link.send({"failed": self._failure})
            if time.monotonic() - self._failed > _STOPPING:  # the hub has nothing to say to it
                raise ClusterError(self._failure)

    def _find_failure(self):
        """What is wrong with a process here (str); None where nothing is."""
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
