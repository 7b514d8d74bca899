"""The settings of a run, each declared once: type, default, range or choices, unit, help, and whether a resumed run may
change it.

Checks, ``vargfacenet train --help-settings``, docs/settings.md and the check of a resumed run derive from here. Options
of networks, losses, distillation losses, augmentations and callbacks are declared by their own functions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Optional

import vargfacenet.train.tensorboard  # noqa: F401 - registers the callback
from vargfacenet.data.augment import AUGMENTATIONS, AugmentationSettings
from vargfacenet.options import About, Setting, declared_settings
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS
from vargfacenet.train.callback import CALLBACKS
from vargfacenet.train.engine_settings import EngineSettings

MOST_UPDATES = 10**9


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Network."""

    network: Annotated[str, About("The network that is trained.", choices=NETWORKS.names)] = "vargfacenet"
    embedding_size: Annotated[
        Optional[int],
        About("Numbers in an embedding; none: the teacher's, or without one the network's own.", low=1, high=65_536),
    ] = None
    init: Annotated[
        Optional[str],
        About(
            "Checkpoint whose weights the first generation starts from, as PREFIX, PREFIX,EPOCH or a bundled name; none: "
            "newly drawn weights."
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Identity loss."""

    loss: Annotated[
        str,
        About(
            "Identity loss: margin is ArcFace and its relatives, none is distillation alone (docs/losses.md).",
            choices=lambda: [*LOSSES.names(), "none"],
            instead=LOSSES.instead,
        ),
    ] = "margin"
    head: Annotated[
        str,
        About(
            "Place of the classifier: dense is in the graph, whole on each device; sharded is one shard on each device.",
            choices=("dense", "sharded"),
        ),
    ] = "dense"
    sample_rate: Annotated[
        float,
        About("With head=sharded, the share of a shard's identities that take part in an update.", low=1e-06, high=1),
    ] = 1.0


@dataclasses.dataclass(frozen=True)
class DistillationSettings:
    """Distillation."""

    distillation: Annotated[
        str,
        About(
            "Distillation loss: angular is equation 5 of the VarGFaceNet paper, squared_cosine equation 4 (docs/losses.md).",
            choices=lambda: ["none", *DISTILLATIONS.names()],
        ),
    ] = "none"
    alpha: Annotated[
        float,
        About(
            "Weight of the distillation loss next to the identity loss; unless given, that which is published for the loss.",
            low=0,
            high=1_000_000.0,
        ),
    ] = 7.0
    teacher_epochs: Annotated[
        bool,
        About("Learn in each epoch from the teacher's own checkpoint of that epoch: multi-step distillation."),
    ] = False
    teacher_mirror: Annotated[
        bool, About("Add the teacher's embeddings of an image and of its mirror, as verification does.")
    ] = False
    generations: Annotated[
        int,
        About(
            "How many times the schedule runs, each time from the student of the previous one: recursive distillation.",
            low=1,
            high=1000,
            may_change=True,
        ),
    ] = 1
    classifier: Annotated[
        str, About("Keep the classifier in the next generation, or draw a new one.", choices=("keep", "new"))
    ] = "keep"
    generation_lr_factor: Annotated[
        float,
        About("Factor of the learning rate in all generations but the first.", 0, 100, aliases=("generation_lr",)),
    ] = 1.0


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Optimizer."""

    batch_size: Annotated[int, About("Images in an update, all devices together.", 1, 65_536, "images")] = 512
    max_updates: Annotated[int, About("Updates of a generation.", 1, MOST_UPDATES, "updates")] = 250_000
    seed: Annotated[int, About("Determines initial weights, order of the data, and augmentation.", 0, 2**32 - 1)] = 0
    lr: Annotated[float, About("Learning rate after the warm-up.", 0, 100)] = 0.1
    optimizer: Annotated[
        str,
        About(
            "sgd: stochastic gradient descent with momentum; adamw: Adam with decoupled weight decay, for which lr=0.001 "
            "weight_decay=0.1 are usual.",
            choices=("sgd", "adamw"),
        ),
    ] = "sgd"
    momentum: Annotated[float, About("Momentum of optimizer=sgd.", 0, 0.9999)] = 0.9
    beta1: Annotated[float, About("Decay of the mean gradient of optimizer=adamw.", 0, 0.9999)] = 0.9
    beta2: Annotated[float, About("Decay of the mean squared gradient of optimizer=adamw.", 0, 0.999999)] = 0.999
    epsilon: Annotated[
        float, About("What optimizer=adamw adds to the root of the mean squared gradient.", 1e-12, 1)
    ] = 1e-8
    weight_decay: Annotated[
        float, About("Weight decay: with sgd a part of the gradient, with adamw apart from it, times lr.", 0, 1)
    ] = 5e-4
    decay_norm: Annotated[bool, About("Apply weight decay to BN scales and PReLU slopes too, as InsightFace does.")] = (
        True
    )
    clip_gradient: Annotated[
        float,
        About("Largest absolute value of a gradient's entry, averaged over the batch; 0: no limit.", 0, 1_000_000.0),
    ] = 0.0
    accumulate: Annotated[
        int,
        About(
            "Parts of a device's images that are computed one after another, with gradients that add up: less memory, and BN "
            "sees smaller parts.",
            1,
            65_536,
        ),
    ] = 1
    ema_decay: Annotated[
        float,
        About("Decay, in an update, of a moving average of the network's weights; 0: no average.", 0, 0.999999),
    ] = 0.0
    checkpoint_weights: Annotated[
        str,
        About(
            "With ema_decay, the weights that are verified, written to checkpoints and passed to the next generation.",
            choices=("averaged", "trained"),
        ),
    ] = "averaged"
    precision: Annotated[
        str,
        About(
            "Number format in which the network computes; bfloat16 needs engine=torch. Parameters and classifier stay "
            "float32.",
            choices=("float32", "bfloat16"),
        ),
    ] = "float32"


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate schedule."""

    schedule: Annotated[
        str,
        About(
            "step multiplies the learning rate by lr_factor at each of lr_milestones; cosine and polynomial go down to "
            "lr_final.",
            choices=("step", "cosine", "polynomial"),
        ),
    ] = "step"
    lr_milestones: Annotated[
        Sequence[int],
        About("Updates at which the step schedule falls.", 0, MOST_UPDATES, unit="updates", aliases=("lr_steps",)),
    ] = (100_000, 160_000, 220_000)
    lr_factor: Annotated[float, About("Factor of the step schedule.", 0, 1)] = 0.1
    lr_final: Annotated[float, About("Learning rate at the end of cosine and polynomial schedules.", 0, 100)] = 0.0
    lr_power: Annotated[
        float, About("Power of the polynomial schedule; 1 is a straight line, as arcface_torch's.", 0.1, 10)
    ] = 1.0
    warmup_updates: Annotated[
        int, About("Updates in which the learning rate climbs linearly from 0.", 0, MOST_UPDATES, "updates")
    ] = 0


@dataclasses.dataclass(frozen=True)
class DataSettings(AugmentationSettings):
    """Data and augmentation."""

    augmentations: Annotated[
        Sequence[str],
        About("Registered augmentations, applied in this order after the others.", choices=AUGMENTATIONS.names),
    ] = ()
    mix: Annotated[
        float,
        About("Share of the images that are mixed with another face; for loss=none with an online teacher.", 0, 1),
    ] = 0.0
    max_bad_share: Annotated[
        float,
        About("Share of the images that may be bad and are skipped; with more, a run stops.", 0, 1, may_change=True),
    ] = 0.001


@dataclasses.dataclass(frozen=True)
class SavingSettings:
    """Verification, saving and logging."""

    verify_every: Annotated[
        int, About("Updates between verifications.", 1, MOST_UPDATES, "updates", may_change=True)
    ] = 2000
    save_every: Annotated[
        int, About("Updates between saved training states.", 1, MOST_UPDATES, "updates", may_change=True)
    ] = 2000
    log_every: Annotated[
        int, About("Updates between lines of the log.", 1, MOST_UPDATES, "updates", may_change=True)
    ] = 100
    save_epochs: Annotated[
        bool,
        About(
            "Leave a checkpoint epochs-000N after each epoch, as teacher_epochs needs of a teacher.", may_change=True
        ),
    ] = False
    keep_states: Annotated[
        int,
        About(
            "Latest training states that are kept, besides that of the best verification.",
            low=1,
            high=1000,
            may_change=True,
            aliases=("keep",),
        ),
    ] = 2
    callbacks: Annotated[
        Sequence[str],
        About(
            "Registered callbacks that run during training; tensorboard writes event files for TensorBoard.",
            choices=CALLBACKS.names,
            may_change=True,
        ),
    ] = ()


GROUPS = (
    NetworkSettings,
    LossSettings,
    DistillationSettings,
    OptimizerSettings,
    ScheduleSettings,
    EngineSettings,
    DataSettings,
    SavingSettings,
)
SETTINGS: dict[str, Setting] = {name: setting for group in GROUPS for name, setting in declared_settings(group).items()}
ALIASES = {alias: name for name, setting in SETTINGS.items() for alias in setting.about.aliases}
