"""VarGFaceNet by the margin loss alone, at the paper's scale (MS1M-RetinaFace, 93,431 identities, batch 512).

The schedule is the lineage's; warm-up is the authors' advice against divergence at a learning rate of 0.1.
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    batch_size=512,
    lr=0.1,
    lr_milestones=(100_000, 160_000, 220_000),
    max_updates=250_000,
    warmup_updates=2000,
)
