"""VarGFaceNet taught by a ResNet: angular distillation, two generations, at the paper's scale.

Needs --teacher. Schedule and margins are the lineage's; warm-up is the authors' advice against divergence, as is the
initialisation that every run here begins with (Xavier, gaussian, by fan-out, magnitude 2).
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    distillation="angular",
    alpha=7.0,
    generations=2,
    batch_size=512,
    lr=0.1,
    lr_milestones=(100_000, 160_000, 220_000),
    max_updates=250_000,
    warmup_updates=2000,
)
