"""Messages between members and their coordinator: JSON objects, one per line, over TCP."""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Optional

from vargfacenet.errors import ClusterError

LONGEST = 1 << 16  # bytes in a message
CLOSED = None  # handed on when a connection has ended

Message = dict[str, Any]


class Link:
    """One end of a connection. A thread reads messages and passes each to `receive`; `CLOSED` is the last.

    `local_address` and `remote_address` are the IPv4 addresses of the two ends.
    """

    local_address: str
    remote_address: str

    def __init__(self, connection: socket.socket, receive: Callable[[Optional[Message]], None]) -> None:
        self._connection, self._receive = connection, receive
        self._sending = threading.Lock()
        self.local_address, self.remote_address = connection.getsockname()[0], connection.getpeername()[0]
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message. A lost connection raises nothing here: the reading thread reports it."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._connection.makefile("rb") as lines:
            while True:
                line = lines.readline(LONGEST)
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                if not isinstance(message, dict):
                    break
                self._receive(message)
        self._receive(CLOSED)


def connect(host: str, port: int, timeout: float) -> tuple[Link, "queue.Queue[Optional[Message]]"]:
    """Connect to a coordinator, and return the link with the queue of the messages that arrive.

    It tries for `timeout` seconds, as the coordinator may start later. ClusterError where the host is unknown or does not
    answer.
    """
    limit, trouble = time.monotonic() + timeout, ""
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        raise ClusterError(f"--root {host}: {error.strerror or error}; give a name or address of worker 0") from error
    while time.monotonic() < limit:
        try:
            connection = socket.create_connection((address, port), timeout=max(0.1, limit - time.monotonic()))
        except OSError as error:
            trouble = error.strerror or str(error)
            time.sleep(0.2)
            continue
        connection.settimeout(None)
        messages: queue.Queue[Optional[Message]] = queue.Queue()
        return Link(connection, messages.put), messages
    raise ClusterError(
        f"cannot reach worker 0 at {host}:{port} within {timeout:g} s ({trouble}): "
        "is it started there, and does a firewall let the port through?"
    )


def listen(port: int) -> socket.socket:
    """Return a listening socket on all addresses of this machine; ClusterError where the port is in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ClusterError(
            f"port {port} of this machine cannot be used ({error.strerror or error}): give another --port, "
            "the same for all workers"
        ) from error
    return listener


def check_free(ports: Iterable[int]) -> None:
    """Raise ClusterError where one of these ports of this machine is in use."""
    for port in ports:
        listen(port).close()
