"""The memory of an update in PyTorch, from a rehearsal on tensors that have shapes and no numbers."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vargfacenet.formats.graph_names import OUTPUT
from vargfacenet.symbols.heads import Margin
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.torch.classifier import TorchClassifier
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.train.classifier import Sampling
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.graph_memory import input_shapes, parameter_count
from vargfacenet.train.optimizer import SGD

_IMAGES = 16  # images of the rehearsal; the memory of activations is proportional to the batch


def graph_bytes(
    symbol: mx.sym.Symbol,
    batch_size: int,
    inputs: Mapping[str, int | None] | None = None,
    *,
    for_training: bool = True,
    precision: str = "float32",
) -> tuple[int, int]:
    """Return how many numbers a graph's parameters have, and how many bytes the graph takes besides them at its peak.

    Gradients of parameters are not among these bytes. Arguments are those of `vargfacenet.train.graph_memory.graph_bytes`;
    `precision` is that of the network, as in `vargfacenet.torch.precision.Compute`.
    """
    known = tuple((inputs or {}).items())
    found = [_rehearsed(symbol.tojson(), known, for_training, precision, images) for images in (_IMAGES, 2 * _IMAGES)]
    growth = (found[1] - found[0]) / _IMAGES
    return parameter_count(symbol, inputs), max(0, round(found[0] + growth * (batch_size - _IMAGES)))


@functools.lru_cache(maxsize=32)
def _rehearsed(
    graph: str, inputs: tuple[tuple[str, int | None], ...], for_training: bool, precision: str, images: int
) -> int:
    """Return the bytes that a number of images takes at the peak, without parameters and their gradients."""
    symbol, shapes = mx.sym.load_json(graph), input_shapes(images, dict(inputs))
    arguments, _, statistics = symbol.infer_shape(**shapes)
    names = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    held = {name: shape for name, shape in zip(names, [*arguments, *statistics]) if name not in shapes}
    with FakeTensorMode(), _LiveBytes() as live:
        module = SymbolModule(graph, held, tuple(shapes)).train(for_training)
        if OUTPUT in module.node_names and precision != "float32":
            module.set_autocast(lambda: torch.autocast("cpu", torch.bfloat16), OUTPUT)
        own = live.now
        given = [torch.empty(shape) for shape in shapes.values()]
        live.peak = live.now
        with torch.set_grad_enabled(for_training):
            outputs = module(*given)
        if for_training:
            ends = [one for one in (outputs if isinstance(outputs, tuple) else (outputs,)) if one.requires_grad]
            torch.autograd.backward(ends, [torch.ones_like(one) for one in ends])
        gradients = sum(one.grad.nbytes for one in module.parameters() if one.grad is not None)
        # The peak is where backward begins: hardly a gradient is there.
        return max(live.peak - own, live.now - own - gradients)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive.

    Attributes
    ----------
    now, peak
        Bytes now, and at most since `peak` was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, torch.Tensor):
                self._add(one.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def freed(_: Any) -> None:
            if self._known.pop(key, None) is not None:
                self.now -= size

        self._known[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def classifier_bytes(
    shape: tuple[int, int], batch_size: int, *, sgd: SGD, margin: Margin | CosineHead | None, sample_rate: float
) -> int:
    """Return the bytes of the largest shard of a classifier at the peak of an update, everything included.

    Parameters
    ----------
    shape
        Rows (identities of the shard) and columns.
    batch_size
        Images of all workers.
    sgd, margin, sample_rate
        The optimizer, the margin (None for plain softmax), and the share of the rows that takes part.
    """
    labels = np.arange(batch_size, dtype=np.float32) % shape[0]
    with FakeTensorMode(allow_non_fake_inputs=True), _LiveBytes() as live:
        classifier = TorchClassifier(
            shape,
            device=torch.device("cpu"),
            cluster=ALONE,
            sgd=sgd,
            margin=margin,
            sampling=Sampling(sample_rate),
        )
        teacher = torch.empty(batch_size, shape[1]) if classifier.reads_teacher else None
        classifier.descend(torch.empty(batch_size, shape[1]), labels, update=1, teacher=teacher)
        classifier.update(0.1, torch.zeros(()))
        return live.peak
