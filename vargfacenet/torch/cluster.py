"""The workers that ``torchrun`` started, over torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from vargfacenet.errors import ClusterError
from vargfacenet.train.cluster import ALONE, Cluster

_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_TIMEOUT = datetime.timedelta(minutes=30)  # as long as the slowest worker may verify or save


class TorchCluster(Cluster):
    """The workers of a run, with torch.distributed in the place of MXNet's parameter store.

    What is exchanged of settings, states and stops goes between CPUs; gradients go by the group of the devices.
    """

    def __init__(self, rank: int, world_size: int, control: Any) -> None:
        super().__init__(rank, world_size)
        self._control = control

    def all_reduce(self, array: Any) -> np.ndarray:
        """Return the sum over all workers of a number or a float32 array that has the same shape in each."""
        total = torch.from_numpy(np.array(array, np.float32, order="C"))
        with explained(self):
            distributed.all_reduce(total, group=self._control)
        return total.numpy()

    def all_reduce_tensor(self, tensor: torch.Tensor, *, largest: bool = False) -> torch.Tensor:
        """Make a tensor on the training device the sum over all workers, or the largest of each number, in place."""
        with explained(self):
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX if largest else distributed.ReduceOp.SUM)
        return tensor

    def broadcast_tensor(self, tensor: torch.Tensor) -> None:
        """Give every worker worker 0's values, in place."""
        with explained(self):
            distributed.broadcast(tensor, 0)

    def leave(self) -> None:
        """End this worker's part, when all workers have called it."""
        self.barrier()
        distributed.destroy_process_group()


@contextlib.contextmanager
def explained(cluster: Any) -> Iterator[None]:
    """Turn what gloo and NCCL say of a worker that is gone into one line; without other workers nothing is changed."""
    try:
        yield
    except RuntimeError as error:
        if cluster is None or cluster.world_size == 1 or not _is_of_transport(error):
            raise
        first = str(error).strip().splitlines()[0][:200]
        raise ClusterError(
            f"worker {cluster.rank} has lost another worker, so that the run ends: --resume continues from its last save, with "
            f"any number of workers ({first})"
        ) from error


def _is_of_transport(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(
        word in text for word in ("gloo", "nccl", "peer", "timed out")
    )


def distributed_over(workers: int, module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module whose gradients are averaged over several workers while they are computed."""
    if workers == 1:
        return module
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(
        module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def is_launched() -> bool:
    """Return True where ``torchrun`` started this process among several."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1) > 1 and "RANK" in os.environ


def local_rank() -> int:
    """Return which of this machine's workers this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Return how many workers this machine has."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def join_torch(device: torch.device) -> Cluster:
    """Return the cluster that ``torchrun`` started this process in; `ALONE` where it was not.

    Raises
    ------
    ClusterError
        Where only a part of the environment is there, or the others cannot be reached.
    """
    if not is_launched():
        return ALONE
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ClusterError(f"{', '.join(missing)} is missing in the environment: start workers with torchrun")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        control = distributed.new_group(backend="gloo", timeout=_TIMEOUT) if device.type == "cuda" else None
    except (RuntimeError, ValueError) as error:
        raise ClusterError(f"worker {rank} cannot reach the others: {str(error).splitlines()[0]}") from error
    return TorchCluster(rank, size, control)
