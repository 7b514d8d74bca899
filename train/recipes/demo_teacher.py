"""A narrow ResNet-18 by the margin loss on the built-in faces, the teacher of demo_student."""

from easydict import EasyDict

recipe = EasyDict(
    network="resnet18",
    multiplier=0.25,
    embedding_size=128,
    batch_size=32,
    max_updates=500,
    lr=0.05,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=30,
    decay_norm=False,
    verify_every=500,
    save_every=100,
    log_every=20,
)
