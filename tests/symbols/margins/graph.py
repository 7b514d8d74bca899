"""A margin loss in a graph, run once."""

import mxnet as mx

from vargfacenet.symbols.margins import CosineHead, get_margin, margin_head
from vargfacenet.symbols.objective import objective

LABELS = ("label", "draw", "teacher")


def head(name, *, identities, size, centres=1, scale=64.0, frozen=False, **options):
    margin = get_margin(name, **options)
    return margin_head(
        mx.sym.var("embedding"),
        mx.sym.var("label"),
        CosineHead(margin, scale, centres, frozen),
        num_identities=identities,
        embedding_size=size,
        draw=mx.sym.var("draw") if margin.draws else None,
        teacher=mx.sym.var("teacher") if margin.reads_teacher else None,
    )


def run(symbol, states=None, training=True, **values):
    """Loss, correctness, gradients (dict) and auxiliary states after a pass (dict)."""
    symbol = objective(identity=symbol)
    arrays = {name: mx.nd.array(value) for name, value in values.items()}
    wanted = {name: "null" if name in LABELS else "write" for name in arrays}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in arrays.items() if name not in LABELS}
    auxs = {name: mx.nd.array(value) for name, value in (states or {}).items()}
    executor = symbol.bind(mx.cpu(), arrays, args_grad=gradients, grad_req=wanted, aux_states=auxs)
    loss, correct = executor.forward(is_train=training)
    if training:
        executor.backward()
    mx.nd.waitall()
    return (
        loss.asnumpy(),
        correct.asnumpy(),
        {name: gradient.asnumpy() for name, gradient in gradients.items()},
        {name: value.asnumpy() for name, value in auxs.items()},
    )
