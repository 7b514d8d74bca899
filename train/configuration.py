"""The settings of a run as an object that is checked when it is made, and frozen."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import mxnet as mx

from vargfacenet.data.augment import AUGMENTATIONS, Augmentation
from vargfacenet.errors import SettingError
from vargfacenet.options import Setting, check_options
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.distillation import distillation
from vargfacenet.symbols.margins import CosineHead
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS, Loss
from vargfacenet.train.callback import CALLBACKS
from vargfacenet.train.settings import (
    SETTINGS,
    DataSettings,
    DistillationSettings,
    EngineSettings,
    LossSettings,
    NetworkSettings,
    OptimizerSettings,
    SavingSettings,
    ScheduleSettings,
)


class Options(dict):
    """Options by name, read-only."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("options of a Config are read-only: make another with dataclasses.replace or resolve")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> Any:  # for copy and pickle, which would set items
        return type(self), (dict(self),)


class Part(NamedTuple):
    """A network, loss, augmentation or callback, with options of its own.

    Attributes
    ----------
    field
        The Config's field that holds its options.
    key
        Its place in that field, where several share one.
    name
        Its registered name.
    label
        What error messages call it.
    options
        The declarations.
    """

    field: str
    key: Optional[str]
    name: str
    label: str
    options: dict[str, Setting]

    @property
    def qualifier(self) -> str:
        """The name that stands before an option's, as in ``network.width`` or ``blur.radius``."""
        return self.key or self.field[: -len("_options")]


OPTION_FIELDS = ("network_options", "loss_options", "distillation_options", "augmentation_options", "callback_options")
SHARED_FIELDS = ("augmentation_options", "callback_options")


@dataclasses.dataclass(frozen=True)
class Config(
    SavingSettings,
    DataSettings,
    EngineSettings,
    ScheduleSettings,
    OptimizerSettings,
    DistillationSettings,
    LossSettings,
    NetworkSettings,
):
    """Everything that determines what a run computes; see `vargfacenet.train.settings` for each setting.

    It is checked when it is made, and all options are filled in. Defaults are InsightFace's at the paper's scale.

    Attributes
    ----------
    network_options, loss_options, distillation_options
        Options of the network (without ``embedding_size``), the identity loss and the distillation loss.
    augmentation_options, callback_options
        Options of each registered augmentation and callback that is used, by its name.

    Raises
    ------
    SettingError
        For a value of another type or out of range, an unknown name, or an option that its owner lacks.
    """

    network_options: Mapping[str, Any] = dataclasses.field(default_factory=Options)
    loss_options: Mapping[str, Any] = dataclasses.field(default_factory=Options)
    distillation_options: Mapping[str, Any] = dataclasses.field(default_factory=Options)
    augmentation_options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=Options)
    callback_options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=Options)

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, setting.check(getattr(self, name)))
        given = {field: getattr(self, field) for field in OPTION_FIELDS}
        found: dict[str, Any] = {field: {} for field in OPTION_FIELDS}
        for part in parts_chosen({name: getattr(self, name) for name in SETTINGS}):
            values = given[part.field].get(part.key, {}) if part.key else given[part.field]
            defaults = {name: option.default for name, option in part.options.items()}
            checked = Options({**defaults, **check_options(part.options, values, owner=part.label)})
            if part.key:
                found[part.field][part.key] = checked
            else:
                found[part.field] = checked
        for field in OPTION_FIELDS:
            object.__setattr__(self, field, Options(found[field]))

    @property
    def writes_averages(self) -> bool:
        """True where averaged weights are verified and written to checkpoints."""
        return self.ema_decay > 0 and self.checkpoint_weights == "averaged"

    @property
    def distils(self) -> bool:
        """True where a teacher is needed."""
        return self.reads_teacher or self.has_frozen_classifier

    @property
    def reads_teacher(self) -> bool:
        """True where the teacher's embeddings are needed."""
        return self.distillation != "none" or "teacher" in self._loss_inputs

    @property
    def cosine_head(self) -> Optional[CosineHead]:
        """The classifier of a loss of `vargfacenet.symbols.margins`, as it is set; None for other losses."""
        loss = self.identity_loss
        head = loss.sharded(**self.loss_options) if loss and loss.sharded else None
        return head if isinstance(head, CosineHead) else None

    @property
    def has_frozen_classifier(self) -> bool:
        """True where the classifier is the teacher's and stays as it is."""
        head = self.cosine_head
        return head is not None and head.frozen

    @property
    def reads_labels(self) -> bool:
        """True where a loss in the graph reads the identities of images."""
        learned = self.distillation != "none" and "label" in DISTILLATIONS[self.distillation].inputs
        return (self.loss != "none" and self.head == "dense") or learned

    @property
    def _loss_inputs(self) -> tuple[str, ...]:
        return () if self.loss == "none" else LOSSES[self.loss].inputs

    @property
    def identity_loss(self) -> Optional[Loss]:
        """The registered identity loss; None where there is none."""
        return None if self.loss == "none" else LOSSES[self.loss]

    def sharded_margin(self) -> Any:
        """Return the margin by which a sharded classifier computes the identity loss; None for plain softmax.

        SettingError where the loss cannot be computed in shards.
        """
        loss = self.identity_loss
        if loss is None or loss.sharded is None:
            raise SettingError(f"loss={self.loss} cannot be computed with head=sharded: give --set head=dense")
        return loss.sharded(**self.loss_options)

    def build_symbol(self) -> mx.sym.Symbol:
        """Build the plain embedding graph."""
        size = {} if self.embedding_size is None else {"embedding_size": self.embedding_size}
        return get_symbol(self.network, **self.network_options, **size)

    def augmentation(self) -> Augmentation:
        """Build the augmentation of training images."""
        return Augmentation(
            mirror=self.mirror,
            shift=self.shift,
            color_jitter=self.color_jitter,
            cutoff=self.cutoff,
            compress=self.compress,
            registered=tuple((name, self.augmentation_options[name]) for name in self.augmentations),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name, each followed by the options that it brings, as JSON values."""
        found: dict[str, Any] = {}
        for name in SETTINGS:
            found[name] = getattr(self, name)
            field = f"{name.removesuffix('s') if name in ('augmentations', 'callbacks') else name}_options"
            if field in OPTION_FIELDS:
                found[field] = getattr(self, field)
        return json.loads(json.dumps(found))

    def to_json(self) -> str:
        """Return the settings as JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def check(self) -> None:
        """SettingError, with the remedy, where settings do not fit together or the network cannot be built."""
        if self.loss == self.distillation == "none":
            raise SettingError(
                "loss=none without distillation leaves nothing to learn: give --set distillation=angular"
            )
        if self.loss == "none" and (self.head, self.sample_rate) != ("dense", 1):
            raise SettingError(
                f"head={self.head} sample_rate={self.sample_rate:g}: loss=none has no classifier; leave both out"
            )
        if self.sample_rate < 1 and self.head != "sharded":
            raise SettingError(
                f"sample_rate={self.sample_rate:g} is of a classifier in shards: give --set head=sharded too"
            )
        if self.teacher_epochs and not self.reads_teacher:
            raise SettingError(
                "teacher_epochs=true without distillation: give --set distillation=embedding_error, or another"
            )
        self._check_losses()
        if self.head == "sharded":
            self.sharded_margin()
            if self.reads_labels:
                raise SettingError(
                    f"distillation={self.distillation} reads the identities of images: give --set head=dense"
                )
        if self.mix and (self.loss != "none" or self.reads_labels):
            raise SettingError(
                f"mix={self.mix:g}: an image of two faces has no one label; give --set loss=none, or mix=0"
            )
        if self.warmup_updates >= self.max_updates:
            raise SettingError(
                f"warmup_updates={self.warmup_updates}: expected fewer than max_updates ({self.max_updates})"
            )
        self.build_symbol()

    def _check_losses(self) -> None:
        """Raise SettingError where options of a loss do not fit together."""
        _ = self.cosine_head  # which checks the options of its margin
        if self.distillation != "none":
            with mx.name.NameManager():  # so that names of later graphs do not depend on it
                student, teacher, label = (mx.sym.var(name) for name in ("student", "teacher", "label"))
                sizes = {"num_identities": 2, "embedding_size": 2}
                options = self.distillation_options
                distillation(student, teacher, form=self.distillation, label=label, options=options, **sizes)


def fixed_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a resumed run may not change, as JSON values; options as in ``network.multiplier``."""
    found: dict[str, Any] = {}
    for name, value in config.to_dict().items():
        if name in SETTINGS and not SETTINGS[name].about.may_change:
            found[name] = value
        elif name in SHARED_FIELDS and name != "callback_options":
            found.update({f"{owner}.{option}": one for owner, each in value.items() for option, one in each.items()})
        elif name in OPTION_FIELDS and name != "callback_options":
            found.update({f"{name[: -len('_options')]}.{option}": one for option, one in value.items()})
    return found


def parts_of(config: Config) -> list[Part]:
    """Return what has options of its own in a run."""
    return parts_chosen({name: getattr(config, name) for name in SETTINGS})


def parts_chosen(values: Mapping[str, Any]) -> list[Part]:
    """Return the parts that settings, by name, choose."""
    network = values["network"]
    options = {name: option for name, option in NETWORKS[network].options.items() if name != "embedding_size"}
    found = [Part("network_options", None, network, network, options)]
    for name, registry in (("loss", LOSSES), ("distillation", DISTILLATIONS)):
        if values[name] != "none":
            chosen = values[name]
            found.append(Part(f"{name}_options", None, chosen, f"{name}={chosen}", registry[chosen].options))
    for augmentation in values["augmentations"]:
        options = AUGMENTATIONS[augmentation].options
        found.append(Part("augmentation_options", augmentation, augmentation, f"augmentation {augmentation}", options))
    for callback in values["callbacks"]:
        options = CALLBACKS[callback].options
        found.append(Part("callback_options", callback, callback, f"callback {callback}", options))
    return found
