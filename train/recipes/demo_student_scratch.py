"""The student of demo_student with the margin loss alone, for as many updates; the baseline of distillation."""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    units=(2, 3, 2),
    embedding_size=128,
    batch_size=32,
    max_updates=320,
    lr=0.05,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=30,
    weight_decay=5e-4,
    decay_norm=False,
    verify_every=320,
    save_every=40,
    log_every=10,
)
