"""A half-width VarGFaceNet taught by a checkpoint alone, without labels, for some ten thousand pictures on a CPU.

With few pictures of many people a classifier learns little that helps; the teacher says more of each picture. The
small batch and the cosine schedule spend all of a short run.
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.5,
    distillation="angular",
    loss="none",
    alpha=7.0,
    teacher_mirror=True,
    batch_size=32,
    max_updates=5000,
    lr=0.05,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=100,
    decay_norm=False,
    color_jitter=0.125,
    verify_every=1000,
    save_every=250,
    log_every=50,
)
