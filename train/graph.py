"""The graph that is trained: an embedding graph with the losses that the settings ask for."""

from vargfacenet import IMAGE_SHAPE
from vargfacenet.operators import in_half_precision, runnable
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train.losses import distillation_loss, identity_loss, loss_inputs


def training_graph(embedding, config, num_identities, device=None, *, tier=None):
    """The graph that is trained: the form of an embedding graph that runs on a device, with the losses that `config`
    asks for.

    Its inputs are ``data``; ``softmax_label`` for losses that need labels; ``teacher``, the teacher's embeddings, for those
    that read them; and ``margin_draw`` for a margin loss that draws. Its outputs are those of
    `vargfacenet.symbols.objective.objective`, or with the classifier in shards those of `open_objective`.
    """
    student = runnable(embedding, for_training=True, device=device, tier=tier)
    scaled = config.precision == "float16"
    if scaled:
        student = in_half_precision(student, data_shape=(2, *IMAGE_SHAPE))
    size = embedding_size_of(embedding)
    inputs = loss_inputs()
    learned = distillation_loss(config, student, inputs, embedding_size=size)
    if config.head == "sharded":
        symbol = open_objective(student, distillation=learned, alpha=config.alpha, scaled=scaled)
    else:
        identity = identity_loss(config, student, inputs, num_identities=num_identities, embedding_size=size)
        symbol = objective(
            identity=identity, distillation=learned, embedding=student, alpha=config.alpha, scaled=scaled
        )
    if not config.decay_norm:
        internals = symbol.get_internals()
        for name in symbol.list_arguments():
            if name.endswith("_gamma"):  # scales of BN and slopes of PReLU
                internals[name]._set_attr(__wd_mult__="0")
    return symbol


def embedding_size_of(embedding):
    """Numbers in an embedding that a graph gives (int)."""
    _, [(_, size)], _ = embedding.infer_shape(data=(1, *IMAGE_SHAPE))
    return size
