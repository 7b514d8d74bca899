"""Combine the settings of a run: defaults, then a recipe, then settings given by hand."""

import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from vargfacenet.data.augment import AUGMENTATIONS
from vargfacenet.errors import SettingError
from vargfacenet.formats.files import read_json
from vargfacenet.options import Setting, unknown
from vargfacenet.registry import Registry
from vargfacenet.symbols.registry import DISTILLATIONS, LOSSES, NETWORKS
from vargfacenet.train.callback import CALLBACKS
from vargfacenet.train.configuration import OPTION_FIELDS, SHARED_FIELDS, Config, Part, fixed_settings, parts_chosen
from vargfacenet.train.recipes import load_recipe
from vargfacenet.train.settings import ALIASES, SETTINGS

__all__ = ["Config", "config_from", "fixed_settings", "read_config", "resolve", "setting_names"]

log = logging.getLogger(__name__)

_REMOVED = {"loss_scale"}  # settings of earlier versions; this one belonged to float16

_REGISTRIES: dict[str, Registry[Any]] = {
    "network_options": NETWORKS,
    "loss_options": LOSSES,
    "distillation_options": DISTILLATIONS,
}


def resolve(recipe: Optional[str] = None, settings: Optional[Mapping[str, Any]] = None) -> Config:
    """Return the settings of a run: defaults, then those of a recipe, then `settings`.

    An option of the network, a loss, an augmentation or a callback is named like a setting, as in ``multiplier``, or with
    its owner before it, as in ``network.multiplier``, ``loss.scale``, ``distillation.weight`` or ``blur.radius``. Options of
    the recipe whose owner `settings` replaces are left out.

    Parameters
    ----------
    recipe
        A name of `vargfacenet.train.list_recipes`, or the path of a recipe file; none for the defaults.
    settings
        Setting to value, or to its text.

    Raises
    ------
    SettingError
        For an unknown recipe or setting, naming the nearest one, a value of another type or out of range, or settings that
        do not fit together.
    """
    of_recipe = _renamed(_flat(load_recipe(recipe))) if recipe else {}
    by_hand = _renamed(_flat(settings or {}))
    if "max_updates" in by_hand and "warmup_updates" not in by_hand:
        # A run cut short by hand warms up for no more than a tenth of it.
        updates = SETTINGS["max_updates"].check(by_hand["max_updates"])
        warmup = SETTINGS["warmup_updates"].check(of_recipe.get("warmup_updates", 0))
        by_hand["warmup_updates"] = min(warmup, updates // 10)
    alpha = _published_alpha(of_recipe, by_hand)
    config = _assemble(of_recipe, by_hand if alpha is None else {**by_hand, "alpha": alpha})
    config.check()
    return config


def _published_alpha(recipe: Mapping[str, Any], by_hand: Mapping[str, Any]) -> Optional[float]:
    """Return the published weight of the distillation loss, where there is one and no weight is given for this loss."""
    # A recipe's alpha is that of its own distillation loss.
    given = "alpha" in by_hand or ("alpha" in recipe and "distillation" not in by_hand)
    name = {**recipe, **by_hand}.get("distillation", "none")
    return None if given or name not in DISTILLATIONS else DISTILLATIONS[name].alpha


def config_from(values: Mapping[str, Any]) -> Config:
    """Return the settings that `Config.to_dict` gave, in this version or an earlier one.

    Raises
    ------
    SettingError
        For an unknown setting, or a value of another type or out of range.
    """
    return _assemble({}, _from_earlier(values))


def read_config(path: Union[str, os.PathLike[str]]) -> Config:
    """Read the settings of a run from its ``config.json``, of this version or an earlier one.

    Raises
    ------
    DataError, SettingError
        Where the file is missing or damaged, or holds a setting that does not exist.
    """
    values = read_json(pathlib.Path(path))
    if not isinstance(values, dict):
        raise SettingError(f"{path}: expected a JSON object of settings")
    return config_from(values)


def setting_names() -> list[str]:
    """Return the names of all settings and of all options of the networks and losses that are registered."""
    options = [name for registry in _REGISTRIES.values() for one in registry for name in registry[one].options]
    return list(dict.fromkeys([*SETTINGS, *ALIASES, *options]))


def _assemble(recipe: Mapping[str, Any], by_hand: Mapping[str, Any]) -> Config:
    plain = {name: value for name, value in {**recipe, **by_hand}.items() if name in SETTINGS}
    plain = {name: SETTINGS[name].check(value) for name, value in plain.items()}
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    parts = parts_chosen({**defaults, **plain})
    own = {name: SETTINGS[name].check(value) for name, value in recipe.items() if name in SETTINGS}
    replaced = [part for part in parts_chosen({**defaults, **own}) if part not in parts]
    options: dict[str, Any] = {field: {} for field in OPTION_FIELDS}
    for values, may_leave_out in ((recipe, True), (by_hand, False)):
        for name, value in values.items():
            if name in SETTINGS:
                continue
            owners = _owners(parts, name)
            if not owners and may_leave_out and _is_of_another(name):
                continue
            if not owners and may_leave_out and _owners(replaced, name):
                log.info("the recipe's %s is left out: it is an option of %s", name, _owners(replaced, name)[0].label)
                continue
            if len(owners) != 1:
                raise _no_owner(name, owners, parts)
            owner, option = owners[0], name.rpartition(".")[2]
            place = options[owner.field].setdefault(owner.key, {}) if owner.key else options[owner.field]
            if _leaves_default(value, owner.options[option]):
                place.pop(option, None)
            else:
                place[option] = owner.options[option].check(value, name=name)
    return Config(**plain, **options)


def _owners(parts: list[Part], name: str) -> list[Part]:
    """Return the parts that have an option, named alone or with its owner before it."""
    qualifier, _, option = name.rpartition(".")
    return [
        part for part in parts if option in part.options and (not qualifier or qualifier in (part.qualifier, part.name))
    ]


def _is_of_another(name: str) -> bool:
    """Tell whether an option names its owner, as in ``margin.scale``, and that is registered."""
    qualifier, _, option = name.rpartition(".")
    registries: list[Registry[Any]] = [NETWORKS, LOSSES, DISTILLATIONS, AUGMENTATIONS, CALLBACKS]
    return any(qualifier in registry and option in registry[qualifier].options for registry in registries)


def _leaves_default(value: object, option: Setting) -> bool:
    """Tell whether a value is none, where the option itself cannot be none."""
    is_none = value is None or (isinstance(value, str) and value.lower() == "none")
    return is_none and not option.is_optional and option.kind is not str


def _no_owner(name: str, owners: list[Part], parts: list[Part]) -> SettingError:
    qualifier, _, option = name.rpartition(".")
    if owners:
        names = " or ".join(f"{owner.qualifier}.{option}" for owner in owners)
        return SettingError(f"{name} is an option of {' and of '.join(part.label for part in owners)}: give {names}")
    for part in parts:
        registry = _REGISTRIES.get(part.field)
        is_meant = qualifier in (part.qualifier, part.name)
        if is_meant or (registry and any(option in registry[one].options for one in registry.names(own=True))):
            known = list(registry[part.name].options if registry else part.options)
            has = f"it has {', '.join(known)}" if known else "it has none"
            return SettingError(f"{part.label} has no option {option}: {has}")
    return unknown("setting", name, [*SETTINGS, *(option for part in parts for option in part.options)])


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with nested options, as ``{"margin": {"scale": 32}}``, as ``{"margin.scale": 32}``."""
    return dict(_flattened(values))


def _flattened(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield name, value
        elif name in SHARED_FIELDS:
            for owner, options in value.items():
                yield from ((f"{owner}.{option}", one) for option, one in options.items())
        else:
            owner = name[: -len("_options")] if name in OPTION_FIELDS else name
            yield from ((f"{owner}.{option}", one) for option, one in value.items())


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their present names, with a warning for former ones."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        now = ALIASES.get(name, name)
        if now in found:
            raise SettingError(f"{now} is given twice, once by its former name; keep {now}")
        if now != name:
            log.warning("the setting %s is now called %s; the former name will go in the next version", name, now)
        found[now] = value
    return found


def _from_earlier(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file under present names, options of other networks and losses left out.

    Files of earlier versions hold the options of all networks and of the margin loss next to the settings, null where the
    network's own default holds.
    """
    named = {ALIASES.get(name, name): value for name, value in _flat(values).items() if name not in _REMOVED}
    if any(name in values for name in OPTION_FIELDS):
        return named
    margin = LOSSES["margin"].options
    return {
        name: value
        for name, value in named.items()
        if name in SETTINGS or (value is not None and (name not in margin or named.get("loss") == "margin"))
    }
