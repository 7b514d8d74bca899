"""Where a training run is computed: devices, the other workers, and the signals that stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mxnet as mx

from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.stopping import NeverStopping


class Runtime(NamedTuple):
    """Devices and processes of a run: by default one CPU device of one process that handles no signals.

    Attributes
    ----------
    devices
        Of this worker; each takes an equal slice of the worker's part of a batch.
    cluster
        The workers that train together.
    stopping
        Signals that end the run after the update that is being made, see `vargfacenet.train.stopping.Stopping`.
    """

    devices: Sequence[mx.Context] = (mx.cpu(0),)
    cluster: Cluster = ALONE
    stopping: NeverStopping = NeverStopping()
