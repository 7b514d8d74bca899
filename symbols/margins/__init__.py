"""Margin losses: how a classifier over cosines is made harder for the own identity.

>>> from vargfacenet.symbols.margins import get_margin, margin_head
>>> adaface = get_margin("adaface", margin=0.4)
"""

from __future__ import annotations

import dataclasses

from vargfacenet.errors import SettingError
from vargfacenet.options import convert, unknown
from vargfacenet.symbols.margins.adadistill import adadistill
from vargfacenet.symbols.margins.adaface import AdaFace
from vargfacenet.symbols.margins.combined import Combined
from vargfacenet.symbols.margins.curricularface import CurricularFace
from vargfacenet.symbols.margins.elasticface import (
    ElasticFaceArc,
    ElasticFaceArcPlus,
    ElasticFaceCos,
    ElasticFaceCosPlus,
)
from vargfacenet.symbols.margins.head import margin_head
from vargfacenet.symbols.margins.magface import MagFace
from vargfacenet.symbols.margins.margin import MarginLoss, Samples
from vargfacenet.symbols.margins.margin_distillation import ArcDistill, MarginDistillation

__all__ = [
    "MARGINS",
    "TEACHER_MARGINS",
    "MarginLoss",
    "Samples",
    "adadistill",
    "get_margin",
    "margin_head",
    "margin_options",
]

MARGINS = {
    "margin": Combined,
    "adaface": AdaFace,
    "elasticface_arc": ElasticFaceArc,
    "elasticface_cos": ElasticFaceCos,
    "elasticface_arc_plus": ElasticFaceArcPlus,
    "elasticface_cos_plus": ElasticFaceCosPlus,
    "curricularface": CurricularFace,
    "magface": MagFace,
}
TEACHER_MARGINS = {"arcdistill": ArcDistill, "margin_distillation": MarginDistillation}  # on the teacher's classifier


def margin_options(name: str) -> dict[str, float]:
    """Return the settings of a margin loss and their published values; SettingError for an unknown name."""
    known = {**MARGINS, **TEACHER_MARGINS}
    if name not in known:
        raise unknown("margin loss", name, known)
    return {field.name: field.default for field in dataclasses.fields(known[name])}


def get_margin(name: str, **options: float) -> MarginLoss:
    """Return a margin loss.

    Parameters
    ----------
    name
        A key of `MARGINS` or `TEACHER_MARGINS`.
    **options
        Its settings, values or their text; see `margin_options`.

    Raises
    ------
    SettingError
        For an unknown name or setting (naming the nearest one), or a value of another type or without sense.
    """
    known = margin_options(name)
    values = {}
    for option, value in options.items():
        if option not in known:
            raise unknown(f"setting of {name}", option, known)
        values[option] = convert(option, value, float)
    margin = {**MARGINS, **TEACHER_MARGINS}[name](**values)
    for low, high in (("norm_low", "norm_high"), ("margin_low", "margin_high")):
        if hasattr(margin, low) and not getattr(margin, low) < getattr(margin, high):
            raise SettingError(
                f"{low}={getattr(margin, low):g} {high}={getattr(margin, high):g}: expected the first below the second"
            )
    return margin
