"""The hub, at worker 0: hears all members, and tells all of them when to start and when and why to stop."""

import threading
import time

from vargfacenet.errors import ClusterError
from vargfacenet.launch.roll import Roll
from vargfacenet.launch.wire import CLOSED, Link, listen

BEAT = 0.5  # seconds between signs of life


class Hub:
    """Listens on a port until it is closed.

    A member's first message is ``{"rank", "of"}``. When all are there, each is told ``{"start": address}``, an address of
    worker 0's machine that the others reach. From then on members say how they fare (see `Roll.hear`), and are told
    ``{"alive": true}``, and in the end ``{"finished": true}`` or ``{"stop": reason}``. Others are not heard.

    Parameters
    ----------
    port, size : int
        Where, and how many members.
    timeout, stall : float
        As of `Roll`.

    Raises
    ------
    ClusterError
        Where the port is in use.
    """

    def __init__(self, port, size, timeout, stall):
        self._roll = Roll(size, timeout, stall, time.monotonic())
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._links, self._started = {}, False
        self._listener = listen(port)
        for task in (self._accept, self._watch):
            threading.Thread(target=task, daemon=True).start()

    def close(self):
        """Stops listening and ends all connections."""
        self._closing.set()
        self._listener.close()
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.close()

    def _accept(self):
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            _Caller(self, connection)

    def _watch(self):
        while not self._closing.wait(BEAT):
            with self._lock:
                self._roll.check(time.monotonic())
                self._tell({"alive": True})

    def _tell(self, otherwise=None):
        """Tells every member what has come about, or what is said otherwise; called with the lock held."""
        if self._roll.reason:
            message = {"stop": self._roll.reason}
        elif self._roll.finished:
            message = {"finished": True}
        elif self._roll.complete and not self._started:
            self._started = True
            # What worker 0 calls itself may be an address of its own, such as 127.0.1.1: the others know better.
            reached = {rank: link.near for rank, link in self._links.items()}
            message = {"start": reached[max(reached)]}
        else:
            message = otherwise
        for link in self._links.values() if message else ():
            link.send(message)


class _Caller:
    """A connection that may be a member's."""

    def __init__(self, hub, connection):
        self._hub, self._rank = hub, None
        self._ready = threading.Event()
        self._link = Link(connection, self._heard)
        self._ready.set()

    def _heard(self, message):
        self._ready.wait()
        hub, now = self._hub, time.monotonic()
        with hub._lock:
            if message is CLOSED:
                if self._rank is not None:
                    hub._roll.lose(self._rank)
                    hub._links.pop(self._rank, None)
            elif self._rank is not None:
                hub._roll.hear(self._rank, message, now)
            else:
                self._join(message, now)
                return
            hub._tell()

    def _join(self, message, now):
        rank, size = message.get("rank"), message.get("of")
        if not (isinstance(rank, int) and isinstance(size, int)):
            self._link.close()
            return
        try:
            self._hub._roll.join(rank, size, self._link.far, now)
        except ClusterError as error:
            self._link.send({"stop": str(error)})
            return
        self._rank = rank
        self._hub._links[rank] = self._link
        self._hub._tell()
