"""Free ports for groups of workers in tests."""

import contextlib
import os
import random

from vargfacenet.errors import ClusterError
from vargfacenet.launch.transport import listen


def free_ports(count=8):
    """Return the first of `count` consecutive free ports.

    They lie below the ports that the system gives to outgoing connections, and each process of pytest-xdist has a range of
    its own, so that no other process takes one between this call and its use.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    begin, generator = 12_000 + 2_500 * worker, random.Random()
    for _ in range(100):
        first = begin + generator.randrange(2_500 - count)
        with contextlib.suppress(ClusterError):
            for number in range(first, first + count):
                listen(number).close()
            return first
    raise AssertionError("no free ports")
