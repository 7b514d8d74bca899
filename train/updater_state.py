"""The arrays that the optimizer of a Module keeps for each parameter, as those of a training state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mxnet as mx

from vargfacenet.train.engine import Arrays


class UpdaterState:
    """Reads and writes what a Module's updater keeps, which is the same on all devices.

    Parameters
    ----------
    module
        With its optimizer.
    slots
        Kinds of arrays that the optimizer keeps for each parameter.
    devices
        Those of the Module.
    """

    def __init__(self, module: Any, slots: Sequence[str], devices: Sequence[mx.Context]) -> None:
        self._updater, self._slots, self._devices = module._updater, slots, devices
        # The index in the updater, on the first device.
        self._places = {name: place * len(devices) for place, name in enumerate(module._param_names)}

    def save(self) -> Arrays:
        """Return the arrays, on the CPU, as ``KIND:NAME``; those that are not there before the first update are left out."""
        found: Arrays = {}
        for name, place in self._places.items():
            kept = self._updater.states.get(place)
            for kind, value in zip(self._slots, kept if isinstance(kept, tuple) else (kept,)):
                if value is not None:
                    found[f"{kind}:{name}"] = value.as_in_context(mx.cpu())
        return found

    def load(self, parts: Mapping[str, Arrays]) -> None:
        """Take arrays by kind and name; parameters for which a kind is missing are left as they are."""
        for name, place in self._places.items():
            if not self._slots or any(name not in parts[kind] for kind in self._slots):
                continue
            for offset, device in enumerate(self._devices):
                kept = tuple(parts[kind][name].copyto(device) for kind in self._slots)
                self._updater.states[place + offset] = kept if len(kept) > 1 else kept[0]
                self._updater.states_synced[place + offset] = True
