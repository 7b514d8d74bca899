"""The forms of a run's convolutions: those of its training state, the same in all workers."""

from __future__ import annotations

from collections.abc import Mapping

import mxnet as mx

from vargfacenet.engines import uses_torch
from vargfacenet.operators import forms_in_use, keep_forms, runnable
from vargfacenet.train.runtime import Runtime

FACT = "convolutions"  # name of the forms among the facts of a training state


def share_forms(embedding: mx.sym.Symbol, runtime: Runtime, recorded: Mapping[str, str]) -> None:
    """Let all workers compute convolutions in the forms that worker 0 has recorded, or chooses where it has none.

    All workers must call it, before they build the graph that they train.

    Parameters
    ----------
    embedding
        The plain graph.
    runtime
        Devices and workers.
    recorded
        The forms of a training state, by shape; what the other workers pass does not matter.
    """
    cluster = runtime.cluster
    keep_forms(recorded if cluster.is_first else {})
    if cluster.world_size == 1 or uses_torch(runtime.devices):
        return
    if cluster.is_first:
        runnable(embedding, for_training=True, device=runtime.devices[0])  # times what is not recorded
    keep_forms(cluster.broadcast_object(forms_in_use()))
