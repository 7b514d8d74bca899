"""Messages between members and their hub: JSON objects, a line each, over TCP."""

import contextlib
import json
import queue
import socket
import threading
import time

from vargfacenet.errors import ClusterError

LONGEST = 1 << 16  # bytes in a message
CLOSED = None


class Link:
    """One end of a connection. Messages (dict) are read in a thread and handed on; `CLOSED` is the last.

    Parameters
    ----------
    connection : socket.socket
        Connected.
    heard : callable
        Called with each message, in the thread.

    Attributes
    ----------
    near, far : str
        Addresses (IPv4) of this end and of the other.
    """

    def __init__(self, connection, heard):
        self._connection, self._heard = connection, heard
        self._sending = threading.Lock()
        self.near, self.far = connection.getsockname()[0], connection.getpeername()[0]
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message):
        """Sends a message; a connection that is gone is left to the reader to notice."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def close(self):
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self):
        with contextlib.suppress(OSError, ValueError), self._connection.makefile("rb") as lines:
            while True:
                line = lines.readline(LONGEST)
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                if not isinstance(message, dict):
                    break
                self._heard(message)
        self._heard(CLOSED)


def call(host, port, timeout):
    """Connects to a hub, trying again until `timeout` seconds are over, as it may be started later.

    Returns
    -------
    Link, queue.Queue
        The queue holds the messages that come.

    Raises
    ------
    ClusterError
        Where there is no such host or nothing answers.
    """
    limit, trouble = time.monotonic() + timeout, None
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        raise ClusterError(f"--root {host}: {error.strerror or error}; give a name or address of worker 0") from error
    while time.monotonic() < limit:
        try:
            connection = socket.create_connection((address, port), timeout=max(0.1, limit - time.monotonic()))
        except OSError as error:
            trouble = error.strerror or error
            time.sleep(0.2)
            continue
        connection.settimeout(None)
        messages = queue.Queue()
        return Link(connection, messages.put), messages
    raise ClusterError(
        f"cannot reach worker 0 at {host}:{port} within {timeout:g} s ({trouble}): "
        "is it started there, and does a firewall let the port through?"
    )


def listen(port):
    """A listening socket on all of this machine's addresses; ClusterError where the port is in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ClusterError(
            f"port {port} of this machine cannot be used ({error.strerror or error}): give another --port, the same to all"
        ) from error
    return listener


def check_free(ports):
    """ClusterError where one of these ports of this machine is in use."""
    for port in ports:
        listen(port).close()
