"""A narrow VarGFaceNet by the margin loss alone on the built-in faces: minutes on a laptop's CPU."""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    embedding_size=128,
    batch_size=64,
    max_updates=300,
    lr=0.1,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=30,
    weight_decay=5e-4,
    decay_norm=False,
    verify_every=100,
    save_every=100,
    log_every=10,
)
