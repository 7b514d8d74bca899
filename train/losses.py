"""The losses that settings can ask for: their names, their own settings, and the graph that they make."""

from __future__ import annotations

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import check_range, unknown
from vargfacenet.symbols.distillation import DISTILLATION_LOSSES, cosine, distillation
from vargfacenet.symbols.distillation_losses import embedding_error, relational_loss, triplet_distillation
from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.symbols.margins import (
    MARGINS,
    TEACHER_MARGINS,
    MarginLoss,
    adadistill,
    get_margin,
    margin_head,
    margin_options,
)

LOSSES = (*MARGINS, "softmax", "none")
# These have no identity loss of their own: theirs is over the teacher's classes.
TEACHER_CLASSES = (*TEACHER_MARGINS, "adadistill")
DISTILLATIONS = ("none", *DISTILLATION_LOSSES, "embedding_error", "rkd", "triplet", *TEACHER_CLASSES)
PUBLISHED_ALPHA = {"embedding_error": 100.0, "rkd": 1.0, "triplet": 1.0}  # weights next to an identity loss
# Inputs of the graph: identities, the teacher's embeddings, random margins.
LABEL, TEACHER, DRAW = "softmax_label", "teacher", "margin_draw"

_COMBINED = ("m1", "m2", "m3")  # settings of the combined margin, which every configuration has
_RANGES = {
    "margin": (0, 1.6),
    "deviation": (0, 1),
    "concentration": (0, 10),
    "norm_momentum": (0, 1),
    "difficulty_momentum": (0, 1),
    "norm_low": (1e-3, 1e6),
    "norm_high": (1e-3, 1e6),
    "margin_low": (0, 1.6),
    "margin_high": (0, 1.6),
    "norm_weight": (0, 1e6),
}


def loss_option_kinds() -> dict[str, type]:
    """Return the settings of all margin losses but the combined one's: name to type."""
    names = (option for name in (*MARGINS, *TEACHER_MARGINS) for option in margin_options(name))
    return dict.fromkeys((name for name in names if name not in _COMBINED), float)


LOSS_OPTIONS = tuple(loss_option_kinds())


def options_of(config) -> dict[str, float]:
    """Return the settings of `LOSS_OPTIONS` that are given."""
    values = {name: getattr(config, name) for name in LOSS_OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def margin_of(config) -> MarginLoss | None:
    """Return the margin loss of the classifier that the settings ask for; None for plain softmax, or no classifier."""
    if config.loss == "margin":
        return get_margin("margin", m1=config.m1, m2=config.m2, m3=config.m3)
    if config.loss in MARGINS:
        return get_margin(config.loss, **options_of(config))
    if config.distillation == "adadistill":
        return get_margin("arcdistill", **options_of(config))
    if config.distillation in TEACHER_MARGINS:
        return get_margin(config.distillation, **options_of(config))
    return None


def check_losses(config) -> None:
    """SettingError, naming settings and remedy, where losses and their settings do not fit together."""
    if config.loss == config.distillation == "none":
        raise SettingError("loss=none without distillation leaves nothing to learn: give --set distillation=angular")
    if config.distillation in TEACHER_CLASSES and config.loss != "none":
        raise SettingError(
            f"distillation={config.distillation} is an identity loss on the teacher's classes, next to which there is no "
            f"other: give --set loss=none instead of loss={config.loss}"
        )
    name = config.distillation if config.distillation in TEACHER_CLASSES else config.loss
    known = margin_options("arcdistill" if name == "adadistill" else name) if margin_of_name(name) else {}
    for option, value in options_of(config).items():
        if option not in known:
            has = ", ".join(known) or "no settings of its own"
            raise SettingError(f"{option}={value:g} is no setting of {name}: it has {has}")
        check_range(option, value, *_RANGES[option])
    if config.centres > 1 and (margin_of(config) is None or config.loss == "none"):
        raise SettingError(
            f"centres={config.centres}: several centres are of a margin loss; give --set loss=margin, or centres=1"
        )
    margin_of(config)
    if config.triplet_margin_low > config.triplet_margin_high:
        raise SettingError(
            f"triplet_margin_low={config.triplet_margin_low:g}: expected at most triplet_margin_high "
            f"({config.triplet_margin_high:g})"
        )


def margin_of_name(name: str) -> bool:
    """Tell whether a name is one of a margin loss."""
    return name in MARGINS or name in TEACHER_CLASSES


def check_spread(config, devices: int) -> None:
    """SettingError where a loss in the graph cannot be spread over this many devices, all workers together."""
    if config.distillation == "adadistill" and config.head == "dense" and devices > 1:
        raise SettingError(
            f"distillation=adadistill on {devices} devices: with head=dense each would move centres of its own; give "
            "--set head=sharded, or one device"
        )


def loss_inputs() -> dict[str, mx.sym.Symbol]:
    """Return the inputs that losses read, by name; a loss takes those that it needs."""
    return {name: mx.sym.var(name) for name in (LABEL, TEACHER, DRAW)}


def identity_loss(config, student, inputs, *, num_identities: int, embedding_size: int) -> mx.sym.Symbol | None:
    """Return loss and correctness of a classifier in the graph; None where the settings have none.

    `student` is the Symbol of its embeddings, and `inputs` are those of `loss_inputs`.
    """
    if not config.has_classifier:
        return None
    label = inputs[LABEL]
    sizes = {"num_identities": num_identities, "embedding_size": embedding_size, "scale": config.scale}
    if config.loss == "softmax":
        return softmax(student, label, num_identities=num_identities)
    if config.loss == "margin" and config.centres == 1:
        return margin_softmax(student, label, m1=config.m1, m2=config.m2, m3=config.m3, **sizes)
    margin = margin_of(config)
    if config.distillation == "adadistill":
        return adadistill(student, inputs[TEACHER], label, margin=margin.margin, **sizes)
    return margin_head(
        student,
        label,
        margin=margin,
        centres=config.centres,
        draw=inputs[DRAW],
        teacher=inputs[TEACHER],
        frozen=config.has_frozen_classifier,
        **sizes,
    )


def distillation_loss(config, student, inputs, *, embedding_size: int) -> mx.sym.Symbol | None:
    """Return loss and cosine of a distillation from embeddings alone; None where the settings have none.

    `student` is the Symbol of the student's embeddings, and `inputs` are those of `loss_inputs`.
    """
    if config.distillation == "none" or config.distillation in TEACHER_CLASSES:
        return None
    teacher = inputs[TEACHER]
    if config.distillation in DISTILLATION_LOSSES:
        return distillation(student, teacher, form=config.distillation)
    teacher = mx.sym.BlockGrad(teacher)
    if config.distillation == "embedding_error":
        loss = embedding_error(student, teacher, embedding_size=embedding_size)
    elif config.distillation == "rkd":
        weights = {"distance_weight": config.rkd_distance, "angle_weight": config.rkd_angle}
        loss = relational_loss(student, teacher, **weights)
    elif config.distillation == "triplet":
        margins = {"margin_low": config.triplet_margin_low, "margin_high": config.triplet_margin_high}
        loss = triplet_distillation(student, teacher, inputs[LABEL], **margins)
    else:
        raise unknown("distillation", config.distillation, DISTILLATIONS)
    return mx.sym.Group([loss, mx.sym.BlockGrad(cosine(student, teacher))])
