"""The margin losses under their names, with their settings as options."""

import inspect
from typing import Annotated, Any

import mxnet as mx

from vargfacenet.options import About, check_options, declared_settings, unknown
from vargfacenet.symbols.margins.adadistill import SCALE, adadistill
from vargfacenet.symbols.margins.adaface import AdaFace
from vargfacenet.symbols.margins.combined import Combined
from vargfacenet.symbols.margins.curricularface import CurricularFace
from vargfacenet.symbols.margins.elasticface import (
    ElasticFaceArc,
    ElasticFaceArcPlus,
    ElasticFaceCos,
    ElasticFaceCosPlus,
)
from vargfacenet.symbols.margins.head import CosineHead, margin_head
from vargfacenet.symbols.margins.magface import MagFace
from vargfacenet.symbols.margins.margin import MarginLoss
from vargfacenet.symbols.margins.margin_distillation import ArcDistill, MarginDistillation
from vargfacenet.symbols.registry import register_loss

MARGINS: dict[str, type[MarginLoss]] = {
    "subcentre": Combined,
    "adaface": AdaFace,
    "elasticface_arc": ElasticFaceArc,
    "elasticface_cos": ElasticFaceCos,
    "elasticface_arc_plus": ElasticFaceArcPlus,
    "elasticface_cos_plus": ElasticFaceCosPlus,
    "curricularface": CurricularFace,
    "magface": MagFace,
}
# On the teacher's classifier, which stays as it is.
TEACHER_MARGINS: dict[str, type[MarginLoss]] = {"arcdistill": ArcDistill, "margin_distillation": MarginDistillation}

_CENTRES = About("Centres of each identity, of which the nearest counts.", low=1, high=100)
_PUBLISHED_CENTRES = {"subcentre": 3}


def get_margin(name: str, **options: object) -> MarginLoss:
    """Return a margin loss.

    Parameters
    ----------
    name
        A key of `MARGINS` or `TEACHER_MARGINS`.
    **options
        Its own settings, values or their text.

    Raises
    ------
    SettingError
        For an unknown name or setting (naming the nearest one), or a value of another type or out of range.
    """
    known = {**MARGINS, **TEACHER_MARGINS}
    if name not in known:
        raise unknown("margin loss", name, known)
    return known[name](**check_options(declared_settings(known[name]), options, owner=name))


def _head(name: str, *, scale: float, centres: int = 1, **options: object) -> CosineHead:
    return CosineHead(get_margin(name, **options), scale, centres, frozen=name in TEACHER_MARGINS)


def _register(name: str, kind: type[MarginLoss]) -> None:
    """Register a margin loss: its settings, scale and number of centres are options of a function made for it."""
    settings: dict[str, tuple[Any, Any]] = {
        one.name: (Annotated[one.kind, one.about], one.default) for one in declared_settings(kind).values()
    }
    settings["scale"] = (Annotated[float, SCALE], 64.0)
    if name in MARGINS:
        settings["centres"] = (Annotated[int, _CENTRES], _PUBLISHED_CENTRES.get(name, 1))
    defaults = {option: default for option, (_, default) in settings.items()}

    def head(**given: Any) -> CosineHead:
        return _head(name, **{**defaults, **given})

    inputs = ["embedding", "label", *["draw"] * kind.draws, *["teacher"] * kind.reads_teacher]

    def build(*values: mx.sym.Symbol, num_identities: int, embedding_size: int, **options: Any) -> mx.sym.Symbol:
        given = dict(zip(inputs, values))
        sizes = {"num_identities": num_identities, "embedding_size": embedding_size}
        return margin_head(given.pop("embedding"), given.pop("label"), head(**options), **sizes, **given)

    parameter = inspect.Parameter
    options = [
        parameter(option, parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for option, (annotation, default) in settings.items()
    ]
    sizes = [parameter(size, parameter.KEYWORD_ONLY, annotation=int) for size in ("num_identities", "embedding_size")]
    places = [parameter(one, parameter.POSITIONAL_OR_KEYWORD) for one in inputs]
    build.__signature__ = inspect.Signature([*places, *sizes, *options])  # type: ignore[attr-defined]
    build.__name__, build.__qualname__, build.__doc__ = name, name, kind.__doc__

    register_loss(name, sharded=head)(build)


def _adadistill_head(*, margin: float = 0.45, scale: float = 64.0, weighted: bool = True) -> CosineHead:
    return CosineHead(Combined(m2=margin), scale, follows=True, weighted=weighted)


for _name, _kind in {**MARGINS, **TEACHER_MARGINS}.items():
    _register(_name, _kind)
register_loss("adadistill", sharded=_adadistill_head)(adadistill)
