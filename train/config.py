"""A run's settings: defaults, then a recipe, then what was set by hand; resolved once, checked, and frozen."""

import dataclasses
import importlib
import json
import pkgutil
import typing

from vargfacenet.errors import SettingError
from vargfacenet.options import check_range, convert, unknown
from vargfacenet.symbols import get_symbol, list_networks, network_options
from vargfacenet.symbols.margins import TEACHER_MARGINS
from vargfacenet.train.losses import (
    DISTILLATIONS,
    LOSSES,
    PUBLISHED_ALPHA,
    TEACHER_CLASSES,
    check_losses,
    loss_option_kinds,
)

CLASSIFIERS = ("keep", "new")
HEADS = ("dense", "sharded")
PRECISIONS = ("float32", "float16")
SCHEDULES = ("step", "cosine")


def _network_option_kinds():
    """Return the options of all networks: dict of name to type, or None for the network's own default."""
    kinds = {}
    for network in list_networks():
        for name, (kind, _) in network_options(network).items():
            kinds.setdefault(name, typing.Optional[kind])
    return kinds


NETWORK_OPTIONS = tuple(_network_option_kinds())
_NetworkOptions = dataclasses.make_dataclass(
    "_NetworkOptions", [(name, kind, None) for name, kind in _network_option_kinds().items()], frozen=True
)
_LossOptions = dataclasses.make_dataclass(
    "_LossOptions", [(name, typing.Optional[kind], None) for name, kind in loss_option_kinds().items()], frozen=True
)


@dataclasses.dataclass(frozen=True)
class Config(_NetworkOptions, _LossOptions):
    """Everything that decides what a run computes. Defaults are the lineage's at the paper's scale.

    Attributes
    ----------
    network : str
        A name of `vargfacenet.symbols.list_networks`.
    embedding_size, multiplier, units, size, width and so on
        Options of the networks, see `vargfacenet.symbols.network_options`; None leaves the network's own default, or for
        `embedding_size` the teacher's.
    loss : str
        ``margin`` (ArcFace and its relatives), another margin loss of `vargfacenet.symbols.margins`, ``softmax``, or
        ``none`` for distillation alone.
    margin, deviation, concentration and so on
        Settings of the other margin losses, see `vargfacenet.symbols.margins.margin_options`; None leaves what the paper
        publishes.
    centres : int
        Centres of an identity, of which the nearest counts; 3 in Sub-centre ArcFace.
    m1, m2, m3 : float
        Margins: factor of the angle, angle added (radians), cosine subtracted.
    scale : float
        Multiplies the cosines of the margin loss.
    head : str
        Where the classifier is: ``dense``, in the graph and whole on each device, or ``sharded``, outside of it, each
        device with a slice of the identities.
    sample_rate : float
        Share of a shard's identities that takes part in an update, those of the batch among them; above 0 .. 1.
    distillation : str
        What is learned of the teacher: ``none``, ``angular`` (eq. 5 of the paper), ``squared_cosine`` (eq. 4),
        ``embedding_error``, ``rkd``, ``triplet``, or with ``loss=none`` an identity loss on the teacher's classes,
        ``arcdistill``, ``margin_distillation`` or ``adadistill``.
    alpha : float
        Weight of the distillation loss beside the identity loss; where it is not given, the published one of the form. An
        identity loss on the teacher's classes has none.
    rkd_distance, rkd_angle : float
        Weights of the two parts of ``rkd``.
    triplet_margin_low, triplet_margin_high : float
        The smallest and the largest margin of ``triplet``.
    teacher_epochs : bool
        Whether the teacher of each epoch is its own checkpoint of that epoch: multi-step distillation.
    teacher_mirror : bool
        Whether the teacher's embeddings of picture and mirror are added, as verification does.
    generations : int
        How often the whole schedule is run, each time from the student of the time before: recursive distillation.
    classifier : str
        What becomes of the classifier between generations: ``keep`` or ``new``.
    generation_lr : float
        Multiplies the learning rate of all generations but the first.
    batch_size : int
        Pictures in an update, all devices together.
    max_updates : int
        Updates of a generation.
    seed : int
        Decides initial weights, order of the data and augmentation.
    lr, momentum, weight_decay : float
        Of stochastic gradient descent with momentum.
    decay_norm : bool
        Whether weight decay also pulls on BN scales and PReLU slopes, as in the lineage.
    clip_gradient : float
        Largest absolute value of a gradient's entry, averaged over the batch; 0 for no limit.
    precision : str
        ``float32``, or on GPUs ``float16``, in which the network then computes; parameters and classifier stay float32.
    loss_scale : float
        With float16, what gradients are multiplied by at first; it is halved and doubled as they need.
    schedule : str
        ``step`` (times `lr_factor` at each of `lr_steps`) or ``cosine`` (down to `lr_final`).
    lr_steps : tuple of int
        Updates at which the step schedule falls.
    lr_factor, lr_final : float
        See `schedule`.
    warmup_updates : int
        Updates in which the learning rate climbs linearly from 0.
    mirror, shift, color_jitter, cutoff, compress
        Augmentation, see `vargfacenet.data.Augmentation`.
    mix : float
        Share of the pictures, 0 .. 1, mixed with another face; for distillation alone with an online teacher.
    max_bad_share : float
        Share of the pictures, 0 .. 1, that may be bad and are skipped; beyond it a run stops.
    verify_every, save_every, log_every : int
        Updates between verifications, between saved states, and between lines of the log.
    save_epochs : bool
        Whether a checkpoint ``epochs-000N`` is left after each epoch, as multi-step distillation needs of a teacher.
    keep : int
        States that are kept, the latest; that of the best verification is kept besides.
    """

    network: str = "vargfacenet"
    loss: str = "margin"
    m1: float = 1.0
    m2: float = 0.5
    m3: float = 0.0
    centres: int = 1
    scale: float = 64.0
    head: str = "dense"
    sample_rate: float = 1.0
    distillation: str = "none"
    alpha: float = 7.0
    rkd_distance: float = 1.0
    rkd_angle: float = 2.0
    triplet_margin_low: float = 0.2
    triplet_margin_high: float = 0.5
    teacher_epochs: bool = False
    teacher_mirror: bool = False
    generations: int = 1
    classifier: str = "keep"
    generation_lr: float = 1.0
    batch_size: int = 512
    max_updates: int = 250_000
    seed: int = 0
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norm: bool = True
    clip_gradient: float = 0.0
    precision: str = "float32"
    loss_scale: float = 1024.0
    schedule: str = "step"
    lr_steps: typing.Sequence[int] = (100_000, 160_000, 220_000)
    lr_factor: float = 0.1
    lr_final: float = 0.0
    warmup_updates: int = 0
    mirror: bool = True
    shift: int = 0
    color_jitter: float = 0.0
    cutoff: int = 0
    compress: float = 0.0
    mix: float = 0.0
    max_bad_share: float = 0.001
    verify_every: int = 2000
    save_every: int = 2000
    log_every: int = 100
    save_epochs: bool = False
    keep: int = 2

    @property
    def distils(self):
        """Whether a teacher is needed (bool)."""
        return self.distillation != "none"

    @property
    def has_classifier(self):
        """Whether there is an identity loss, be it on the teacher's classes (bool)."""
        return self.loss != "none" or self.distillation in TEACHER_CLASSES

    @property
    def has_frozen_classifier(self):
        """Whether the classifier is the teacher's and stays as it is (bool)."""
        return self.distillation in TEACHER_MARGINS

    @property
    def reads_teacher(self):
        """Whether the teacher's embeddings are looked at (bool)."""
        return self.distillation not in ("none", "arcdistill")

    @property
    def needs_labels(self):
        """Whether identities of the images are looked at (bool)."""
        return self.has_classifier or self.distillation == "triplet"

    def network_options(self):
        """The options given for the network (dict)."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in NETWORK_OPTIONS if values[name] is not None}

    def build_symbol(self):
        """The plain embedding graph that the settings describe."""
        return get_symbol(self.network, **self.network_options())

    def to_json(self):
        """The settings as JSON text, in their order."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


_RANGES = {
    "alpha": (0, 1000000.0),
    "generations": (1, 1000),
    "generation_lr": (0, 100),
    "batch_size": (1, 65_536),
    "max_updates": (1, 10**9),
    "seed": (0, 2**32 - 1),
    "lr": (0, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "clip_gradient": (0, 1000000.0),
    "loss_scale": (1, 2**24),
    "lr_factor": (0, 1),
    "lr_final": (0, 100),
    "warmup_updates": (0, 10**9),
    "scale": (0.001, 1000),
    "sample_rate": (1e-06, 1),
    "m1": (0.001, 4),
    "m2": (0, 1.6),
    "m3": (0, 1),
    "centres": (1, 100),
    "rkd_distance": (0, 1000000.0),
    "rkd_angle": (0, 1000000.0),
    "triplet_margin_low": (0, 4),
    "triplet_margin_high": (0, 4),
    "shift": (0, 56),
    "color_jitter": (0, 1),
    "cutoff": (0, 112),
    "compress": (0, 1),
    "mix": (0, 1),
    "max_bad_share": (0, 1),
    "verify_every": (1, 10**9),
    "save_every": (1, 10**9),
    "log_every": (1, 10**9),
    "keep": (1, 1000),
}
_CHOICES = {
    "loss": LOSSES,
    "distillation": DISTILLATIONS,
    "classifier": CLASSIFIERS,
    "schedule": SCHEDULES,
    "head": HEADS,
    "precision": PRECISIONS,
}
_UNITS = {"m2": "radians", "cutoff": "pixels", "shift": "pixels"}


def resolve(recipe, settings=None):
    """The settings of a run.

    Parameters
    ----------
    recipe : str
        A name of `list_recipes`.
    settings : dict, optional
        What differs from the recipe: setting to value, or to its text.

    Returns
    -------
    Config

    Raises
    ------
    SettingError
        For an unknown recipe or setting, naming the nearest one, or a value of another type or out of range.
    """
    kinds = typing.get_type_hints(Config)
    values = {}
    for name, value in {**load_recipe(recipe), **(settings or {})}.items():
        if name not in kinds:
            raise unknown("setting", name, kinds)
        values[name] = convert(name, value, kinds[name])
        if name in _RANGES:
            check_range(name, values[name], *_RANGES[name], _UNITS.get(name, ""))
    if "max_updates" in (settings or {}) and "warmup_updates" not in settings:
        # A run cut short by hand warms up for no more than a tenth of it.
        values["warmup_updates"] = min(values.get("warmup_updates", 0), values["max_updates"] // 10)
    given = settings or {}
    # A recipe's alpha is that of its own form of distillation.
    published = "alpha" not in given if "distillation" in given else "alpha" not in values
    if published and values.get("distillation") in PUBLISHED_ALPHA:
        values["alpha"] = PUBLISHED_ALPHA[values["distillation"]]
    config = Config(**values)
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise unknown(name, getattr(config, name), choices)
    check_losses(config)
    if not config.has_classifier and (config.head, config.sample_rate) != ("dense", 1):
        raise SettingError(
            f"head={config.head} sample_rate={config.sample_rate:g}: loss=none has no classifier; leave both out"
        )
    if config.sample_rate < 1 and config.head != "sharded":
        raise SettingError(
            f"sample_rate={config.sample_rate:g} is of a classifier in shards: give --set head=sharded too"
        )
    if config.teacher_epochs and not config.distils:
        raise SettingError("teacher_epochs=true without distillation: give --set distillation=embedding_error")
    if config.mix and config.needs_labels:
        raise SettingError(
            f"mix={config.mix:g}: a picture of two faces has no one label; give --set loss=none, or mix=0"
        )
    if config.warmup_updates >= config.max_updates:
        raise SettingError(
            f"warmup_updates={config.warmup_updates}: expected fewer than max_updates ({config.max_updates})"
        )
    unused = sorted(set(config.network_options()) - set(network_options(config.network)))
    if unused:
        raise SettingError(
            f"{config.network} has no option {unused[0]}: it has {', '.join(network_options(config.network))}"
        )
    config.build_symbol()
    return config


def list_recipes():
    """Names of the recipes (list of str)."""
    package = importlib.import_module("vargfacenet.train.recipes")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_recipe(name):
    """What a recipe sets (dict); SettingError for an unknown one."""
    if name not in list_recipes():
        raise unknown("recipe", name, list_recipes())
    return dict(importlib.import_module(f"vargfacenet.train.recipes.{name}").recipe)


def recipe_summary(name):
    """The first line of a recipe's description."""
    return importlib.import_module(f"vargfacenet.train.recipes.{name}").__doc__.splitlines()[0]


def is_demo(recipe):
    """Whether a recipe trains on the built-in faces when no data is given."""
    return recipe.startswith("demo_")
