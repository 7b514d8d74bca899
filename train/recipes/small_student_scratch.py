"""A narrow, shallow VarGFaceNet by the margin loss alone, for sets of some hundred identities on a CPU.

The gentler margin and scale suit a classifier of few identities; the cosine schedule spends all of a short run.
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    units=(2, 3, 2),
    embedding_size=256,
    batch_size=64,
    max_updates=2000,
    lr=0.1,
    scale=32.0,
    m2=0.3,
    schedule="cosine",
    warmup_updates=100,
    decay_norm=False,
    color_jitter=0.125,
    verify_every=2000,
    save_every=200,
    log_every=20,
)
