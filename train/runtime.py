"""Where a training run is computed: devices, the other workers, and the signals that stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import mxnet as mx

from vargfacenet.engines import torch_module, uses_torch
from vargfacenet.train.cluster import ALONE, Cluster, join
from vargfacenet.train.stopping import NeverStopping

if TYPE_CHECKING:
    from vargfacenet.engines import Device


class Runtime(NamedTuple):
    """Devices and processes of a run: by default one CPU device of one process that handles no signals.

    Attributes
    ----------
    devices
        Of this worker, all of MXNet or all of PyTorch; each takes an equal slice of the worker's part of a batch.
    cluster
        The workers that train together.
    stopping
        Signals that end the run after the update that is being made, see `vargfacenet.train.stopping.Stopping`.
    """

    devices: Sequence[Device] = (mx.cpu(0),)
    cluster: Cluster = ALONE
    stopping: NeverStopping = NeverStopping()


def join_workers(devices: Sequence[Device]) -> Cluster:
    """Return the cluster in which ``vargfacenet launch``, or for PyTorch ``torchrun``, started this process.

    `ALONE` where neither did; ClusterError where only a part of the environment is there.
    """
    return torch_module("cluster").join_torch(devices[0]) if uses_torch(devices) else join()
