"""Changes that make a run fit where it does not: smaller batches, parts of a batch, another classifier, more devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from vargfacenet.errors import SettingError
from vargfacenet.train.config import Config
from vargfacenet.train.plan import Place, Plan, Workload, gib, make_plan


class Remedy(NamedTuple):
    """A change in words, such as ``batch_size=64``, and the plan that results, which fits."""

    words: str
    plan: Plan


def refusal(config: Config, place: Place, work: Workload, plan: Plan) -> str:
    """Return in words what a plan that does not fit needs, what there is, and what would fit."""
    found = remedies(config, place, work)
    fixed = sum(size for name, size in plan.device.items() if name.startswith("network") and "activations" not in name)
    words = [f"{change} ({gib(other.total)} GiB)" for change, other in found]
    if words:
        remedy = f"what would fit: {', or '.join(words)}"
    elif plan.limit is not None and fixed > plan.limit:
        remedy = f"the network's parameters alone need {gib(fixed)} GiB: give a smaller network, such as a smaller multiplier"
    else:
        remedy = "no batch, sample or number of devices tried would"
    what = "each GPU needs" if place.kind == "gpu" else "the machine needs"
    return f"{what} {gib(plan.total)} GiB, there are {gib(plan.limit)} GiB; {remedy}"


def remedies(config: Config, place: Place, work: Workload) -> list[Remedy]:
    """Return changes that make a plan fit, each alone where that suffices."""
    shardable = config.identity_loss is not None and config.identity_loss.sharded is not None
    changes: list[dict[str, Any]] = []
    if shardable and config.head == "dense" and config.accumulate == 1:
        changes.append({"head": "sharded"})
    if shardable and config.sample_rate > 0.1 and config.accumulate == 1:
        changes.append({"head": "sharded", "sample_rate": 0.1})
    sizes = list(_smaller(config.batch_size, place.shards * config.accumulate))
    found: list[Remedy] = []
    for alone in changes:
        _keep(found, alone, config, place, work)
    for size in sizes:
        if _keep(found, {"batch_size": size}, config, place, work):
            break
    for parts in (2, 4, 8, 16, 32):
        if _keep(found, {"accumulate": config.accumulate * parts}, config, place, work):
            break
    if not found and changes:
        for size in sizes:
            if _keep(found, {**changes[-1], "batch_size": size}, config, place, work):
                break
    for count in (2, 4, 8, 16) if place.kind == "gpu" else ():
        more = dataclasses.replace(place, devices=place.devices * count)
        spread = {"head": "sharded"} if shardable and config.head == "dense" and config.accumulate == 1 else {}
        if _keep(found, spread, config, more, work, f"{more.devices} devices"):
            break
    return found


def _keep(
    found: list[Remedy], changes: dict[str, Any], config: Config, place: Place, work: Workload, devices: str = ""
) -> bool:
    """Plan changes of settings, and add them to those found where they fit and are allowed; return whether they do.

    `devices` names the devices of `place` where they are a change too.
    """
    try:
        config = dataclasses.replace(config, **changes)
        config.check()
        plan = make_plan(config, place, work)
    except SettingError:
        return False
    if plan.fits:
        found.append(Remedy(" and ".join(filter(None, (devices, _words(changes)))), plan))
    return plan.fits


def _words(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _smaller(number: int, divisor: int) -> Iterator[int]:
    """Yield halves of a number, rounded down to multiples of a divisor, above 1."""
    while number // 2 >= divisor and number > 2:
        number = number // 2 // divisor * divisor
        yield number
