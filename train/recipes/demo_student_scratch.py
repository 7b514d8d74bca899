"""A narrow, shallow VarGFaceNet by the margin loss alone on the built-in faces: minutes on a laptop's CPU."""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    units=(2, 3, 2),
    embedding_size=128,
    batch_size=64,
    max_updates=340,
    lr=0.1,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=30,
    weight_decay=5e-4,
    decay_norm=False,
    verify_every=170,
    save_every=85,
    log_every=10,
)
