"""The graph that is trained: an embedding graph with the losses that the settings ask for."""

from __future__ import annotations

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import in_half_precision, runnable
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train.config import Config


def training_graph(
    embedding: mx.sym.Symbol,
    config: Config,
    num_identities: int,
    device: mx.Context | None = None,
    *,
    backend: str | None = None,
) -> mx.sym.Symbol:
    """Return the graph that is trained: an embedding graph in the form that runs on a device, with the losses of `config`.

    Its inputs are ``data``, with an identity loss in the graph ``softmax_label``, and with distillation ``teacher``, the
    teacher's embeddings. Its outputs are those of `vargfacenet.symbols.objective.objective`, or with a sharded classifier
    those of `open_objective`.
    """
    student = runnable(embedding, for_training=True, device=device, backend=backend)
    scaled = config.precision == "float16"
    if scaled:
        student = in_half_precision(student, data_shape=(2, *IMAGE_SHAPE))
    identity = learned = None
    if config.head == "sharded":
        pass
    elif config.loss == "softmax":
        identity = softmax(student, mx.sym.var("softmax_label"), num_identities=num_identities)
    elif config.loss == "margin":
        margins = {"m1": config.m1, "m2": config.m2, "m3": config.m3, "scale": config.scale}
        size = embedding_size_of(embedding)
        label = mx.sym.var("softmax_label")
        identity = margin_softmax(student, label, num_identities=num_identities, embedding_size=size, **margins)
    if config.distils:
        learned = distillation(student, mx.sym.var("teacher"), form=config.distillation)
    if config.head == "sharded":
        symbol = open_objective(student, distillation=learned, alpha=config.alpha, scaled=scaled)
    else:
        symbol = objective(
            identity=identity, distillation=learned, embedding=student, alpha=config.alpha, scaled=scaled
        )
    if not config.decay_norm:
        internals = symbol.get_internals()
        for name in symbol.list_arguments():
            if name.endswith("_gamma"):  # scales of BN and slopes of PReLU
                internals[name]._set_attr(__wd_mult__="0")
    return symbol


def embedding_size_of(embedding: mx.sym.Symbol) -> int:
    """Return how many numbers an embedding of a graph has."""
    _, [(_, size)], _ = embedding.infer_shape(data=(1, *IMAGE_SHAPE))
    return size
