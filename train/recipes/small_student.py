"""A narrow, shallow VarGFaceNet taught by a checkpoint alone, without labels, for some ten thousand images on a CPU.

With few images of many people a classifier learns little that helps; the teacher says more of each image. The
small batch and the cosine schedule spend all of a short run; a narrow network sees more images in it. Shifts are for
faces that are aligned otherwise where the student is used. `margin` holds options for `--set loss=margin`.
"""

from easydict import EasyDict

recipe = EasyDict(
    network="vargfacenet",
    multiplier=0.25,
    units=(2, 3, 2),
    distillation="angular",
    loss="none",
    alpha=7.0,
    teacher_mirror=True,
    batch_size=32,
    max_updates=4000,
    lr=0.05,
    margin={"scale": 32.0, "m2": 0.3},
    schedule="cosine",
    warmup_updates=100,
    decay_norm=False,
    shift=10,
    color_jitter=0.125,
    verify_every=1000,
    save_every=500,
    log_every=50,
)
