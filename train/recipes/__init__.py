"""Recipes: one file each, with what differs from the defaults of `vargfacenet.train.settings`.

A recipe is a module with a mapping called ``recipe`` and a docstring, whose first line is its summary. It is one of the
files here, a file named by its path, or one that an installed package names by an entry point of the group
``vargfacenet.recipes``.
"""

import functools
import importlib
import os
import pathlib
import pkgutil
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from vargfacenet.errors import SettingError
from vargfacenet.options import unknown
from vargfacenet.registry import Registry, run_file

GROUP = "vargfacenet.recipes"


class Recipe(NamedTuple):
    """Settings under a name.

    Attributes
    ----------
    summary
        One line.
    settings
        What differs from the defaults.
    """

    name: str
    summary: str
    settings: dict[str, Any]


def _make(name: str, found: Any) -> Recipe:
    settings = getattr(found, "recipe", None) if isinstance(found, types.ModuleType) else found
    if not isinstance(settings, Mapping):
        raise SettingError(
            f"recipe {name}: expected a module with a mapping called recipe, such as recipe = dict(lr=0.1)"
        )
    lines = (found.__doc__ or "").strip().splitlines() if isinstance(found, types.ModuleType) else []
    return Recipe(name, lines[0] if lines else "", dict(settings))


RECIPES: Registry[Recipe] = Registry("recipe", GROUP, _make)


def list_recipes() -> list[str]:
    """Return the names of the recipes, those of installed packages included."""
    return sorted({*_own_names(), *RECIPES})


def find_recipe(name: str) -> Recipe:
    """Return a recipe of `list_recipes`, or of a file, such as ``./mine.py``; the file is run.

    SettingError where there is none, or it is not a recipe.
    """
    if _is_path(name):
        return _of_file(pathlib.Path(name).resolve())
    if name in _own_names():
        return _make(name, importlib.import_module(f"{__name__}.{name}"))
    if name not in RECIPES:
        raise unknown("recipe", name, list_recipes())
    return RECIPES[name]


def load_recipe(name: str) -> dict[str, Any]:
    """Return what a recipe sets; errors are those of `find_recipe`."""
    return dict(find_recipe(name).settings)


def recipe_summary(name: str) -> str:
    """Return the first line of a recipe's description."""
    return find_recipe(name).summary


def recipe_name(name: str) -> str:
    """Return a recipe's name: for a file that without folder and ending."""
    return pathlib.Path(name).stem if _is_path(name) else name


def is_demo(name: str) -> bool:
    """Tell whether a recipe trains on the built-in faces when no data is given."""
    return name in _own_names() and name.startswith("demo_")


def _own_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


@functools.cache  # a file may register a network, which is done once
def _of_file(path: pathlib.Path) -> Recipe:
    if not path.is_file():
        raise SettingError(f"there is no recipe file {path}; 'vargfacenet train --list' lists the recipes with a name")
    try:
        module = run_file(f"recipe_{path.stem}", path)
    except SettingError:
        raise
    except Exception as error:
        raise SettingError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return _make(path.stem, module)
