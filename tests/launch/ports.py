"""Ports for groups of workers in tests."""

import contextlib
import socket

from vargfacenet.errors import ClusterError
from vargfacenet.launch.wire import listen


def free_ports(count=8):
    """The first of so many free ports, one after the other."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("", 0))
            first = probe.getsockname()[1]
        with contextlib.suppress(ClusterError, OverflowError):
            for number in range(first, first + count):
                listen(number).close()
            return first
    raise AssertionError("no free ports")
