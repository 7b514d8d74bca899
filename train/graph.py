"""The graph that is trained: an embedding graph with the losses that the settings ask for."""

from __future__ import annotations

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import runnable
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train.config import Config

LABEL, TEACHER, DRAW = "softmax_label", "teacher", "margin_draw"  # inputs of the graph, besides data


def training_graph(
    embedding: mx.sym.Symbol,
    config: Config,
    num_identities: int,
    device: mx.Context | None = None,
    *,
    backend: str | None = None,
) -> mx.sym.Symbol:
    """Return the graph that is trained: an embedding graph in the form that runs on a device, with the losses of `config`.

    Its inputs are ``data``; ``softmax_label`` for losses that read identities; ``teacher``, the teacher's embeddings, for
    those that read them; and ``margin_draw`` for a margin loss that draws. Its outputs are those of
    `vargfacenet.symbols.objective.objective`, or with a sharded classifier those of `open_objective`.
    """
    student = runnable(embedding, for_training=True, device=device, backend=backend)
    identity = learned = None
    sizes = {"num_identities": num_identities, "embedding_size": embedding_size_of(embedding)}
    label, teacher, draw = (mx.sym.var(name) for name in (LABEL, TEACHER, DRAW))
    if config.head == "dense" and config.identity_loss:
        inputs = {"embedding": student, "label": label, "teacher": mx.sym.BlockGrad(teacher), "draw": draw}
        identity = config.identity_loss(options=dict(config.loss_options), **inputs, **sizes)
    if config.distillation != "none":
        options = config.distillation_options
        learned = distillation(student, teacher, form=config.distillation, label=label, options=options, **sizes)
    if config.head == "sharded":
        symbol = open_objective(student, distillation=learned, alpha=config.alpha)
    else:
        symbol = objective(identity=identity, distillation=learned, embedding=student, alpha=config.alpha)
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
