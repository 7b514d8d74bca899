"""A half-width VarGFaceNet taught by a checkpoint of 128 numbers, for sets of some thousand identities on a CPU."""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.5,
    embedding_size=128,
    distillation="angular",
    alpha=7.0,
    batch_size=64,
    max_updates=800,
    lr=0.1,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=50,
    decay_norm=False,
    verify_every=800,
    save_every=100,
    log_every=20,
)
