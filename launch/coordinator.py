"""The coordinator, in the member of worker 0: it receives all reports and tells members when to start and to stop."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from vargfacenet.errors import ClusterError
from vargfacenet.launch.heartbeat import HEARTBEAT_SECONDS
from vargfacenet.launch.membership import Membership
from vargfacenet.launch.transport import CLOSED, Link, Message, listen


class Coordinator:
    """Listen on a port until it is closed.

    A member's first message is ``{"rank", "of"}``. When all members have joined, each receives ``{"start": address}``, an
    address of worker 0's machine that the others can reach. From then on members report (see `Membership.receive`) and
    receive ``{"alive": true}``, and at the end ``{"finished": true}`` or ``{"stop": reason}``. Connections that do not
    join are ignored.

    `size` is the number of members; `timeout` and `stall` are those of `Membership`. ClusterError where the port is in
    use.
    """

    def __init__(self, port: int, size: int, timeout: float, stall: float) -> None:
        self._membership = Membership(size, timeout, stall, time.monotonic())
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._links: dict[int, Link] = {}
        self._started = False
        self._listener = listen(port)
        for task in (self._accept, self._check):
            threading.Thread(target=task, daemon=True).start()

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._closing.set()
        self._listener.close()
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            _MemberConnection(self, connection)

    def _check(self) -> None:
        while not self._closing.wait(HEARTBEAT_SECONDS):
            with self._lock:
                self._membership.check(time.monotonic())
                self._notify({"alive": True})

    def _notify(self, otherwise: Message | None = None) -> None:
        """Send every member the group's news, or else the given message. The caller holds the lock."""
        message: Message | None
        if self._membership.reason:
            message = {"stop": self._membership.reason}
        elif self._membership.finished:
            message = {"finished": True}
        elif self._membership.complete and not self._started:
            self._started = True
            # The name of worker 0's machine may resolve there to a local address such as 127.0.1.1, so use the address
            # by which another member reached it.
            reached = {rank: link.local_address for rank, link in self._links.items()}
            message = {"start": reached[max(reached)]}
        else:
            message = otherwise
        if message is not None:
            for link in self._links.values():
                link.send(message)

    def _receive(self, connection: _MemberConnection, message: Any) -> None:
        now = time.monotonic()
        with self._lock:
            rank = connection.rank
            if rank is None:
                if message is not CLOSED:
                    self._join(connection, message, now)
                return
            if message is CLOSED:
                self._membership.disconnect(rank)
                self._links.pop(rank, None)
            else:
                self._membership.receive(rank, message, now)
            self._notify()

    def _join(self, connection: _MemberConnection, message: Message, now: float) -> None:
        rank, size = message.get("rank"), message.get("of")
        if not (isinstance(rank, int) and isinstance(size, int)):
            connection.link.close()
            return
        try:
            self._membership.join(rank, size, connection.link.remote_address, now)
        except ClusterError as error:
            connection.link.send({"stop": str(error)})
            return
        connection.rank = rank
        self._links[rank] = connection.link
        self._notify()


class _MemberConnection:
    """A connection, and the rank of its member once that has joined."""

    def __init__(self, coordinator: Coordinator, connection: socket.socket) -> None:
        self._coordinator = coordinator
        self.rank: int | None = None
        self._ready = threading.Event()
        self.link = Link(connection, self._receive)  # its thread may call `_receive` before the assignment
        self._ready.set()

    def _receive(self, message: Any) -> None:
        self._ready.wait()
        self._coordinator._receive(self, message)
