"""Options that a function declares by its signature: types, defaults, bounds, and what a declaration may lack."""

from typing import Annotated, Optional

import mxnet as mx
import pytest

from vargfacenet.errors import SettingError
from vargfacenet.options import About, declared_settings


def no_type(*, width=1.0):
    pass


def no_default(*, width: float):
    pass


def unsuited(*, width: dict = None):  # noqa: RUF013
    pass


def swallowing(**options):
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_type, "no_type: option width has no type"),
        (no_default, "no_default: option width has no default"),
        (unsuited, "unsuited: option width has the type .*dict.*: expected bool, int, float, str, or a sequence"),
        (swallowing, r"swallowing takes \*\*options: expected each option by name"),
    ],
)
def test_a_declaration_that_lacks_something_is_named(function, message):
    with pytest.raises(SettingError, match=message):
        declared_settings(function)


def test_a_default_of_none_may_make_an_annotation_optional():
    """As Python 3.9 and 3.10 do when they read ``width: Annotated[Optional[float], ...] = None``."""

    def build(*, width: Optional[Annotated[Optional[float], About("Factor.", 0.5, 2)]] = None):
        pass

    width = declared_settings(build)["width"]
    assert (width.type_name, width.range_name, width.check("none"), width.check("2")) == (
        "float or none",
        "0.5 .. 2",
        None,
        2,
    )
    with pytest.raises(SettingError, match="width=3.0: expected between 0.5 and 2"):
        width.check(3)


def test_a_declaration_takes_type_default_and_bounds_from_the_signature():
    def build(
        *, width: Annotated[float, About("Factor.", 0.5, 2, "x")] = 1, depth: Optional[int] = None, symbol: str = "a"
    ) -> mx.sym.Symbol:
        pass

    found = declared_settings(build, skip=("symbol",))
    assert list(found) == ["width", "depth"]
    assert (found["width"].type_name, found["width"].range_name, found["width"].check("1.5")) == (
        "float",
        "0.5 .. 2 x",
        1.5,
    )
    assert (found["depth"].type_name, found["depth"].check("none"), found["depth"].check("3")) == (
        "int or none",
        None,
        3,
    )
