"""ResNet-100 by the margin loss, the paper's teacher, at its scale (about 24 GFLOPs)."""

from easydict import EasyDict

recipe = EasyDict(
    network="resnet100",
    batch_size=512,
    lr=0.1,
    lr_milestones=(100_000, 160_000, 220_000),
    max_updates=250_000,
    warmup_updates=2000,
)
