"""A narrow, shallow VarGFaceNet taught by demo_teacher on the built-in faces, two generations: minutes on a CPU.

On so few faces the teacher is worth more than the labels: a weight of 64, and a learning rate for gradients that long.
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    units=(2, 3, 2),
    embedding_size=128,
    distillation="angular",
    alpha=64.0,
    generations=2,
    batch_size=32,
    max_updates=160,
    lr=0.01,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=10,
    decay_norm=False,
    verify_every=160,
    save_every=40,
    log_every=10,
)
