"""Half precision: which devices have it, and the scale that keeps small gradients from vanishing in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError

_PATIENCE = 2000  # updates without an overflow after which the scale is doubled
_MOST = 2.0**24
_AT_ONCE = 200  # arrays that one call of MXNet's multi-array operators takes; with more, it writes out of bounds


def check_precision(precision: str, devices: Sequence[mx.Context]) -> None:
    """Raise SettingError where a device cannot multiply float16 matrices, as MXNet cannot on CPUs."""
    cpus = [str(device) for device in devices if device.device_type == "cpu"]
    if precision == "float16" and cpus:
        raise SettingError(
            f"precision=float16 on {', '.join(cpus)}: MXNet has no float16 convolutions on CPUs; give --device gpu:0, or "
            "precision=float32"
        )


def not_finite(arrays: list[mx.nd.NDArray]) -> list[int]:
    """Return the places of the arrays, all on one device, that hold NaN, infinity, or numbers whose squares add up to that.

    Waits for the arrays.
    """
    sums = [mx.nd.multi_sum_sq(*part, num_arrays=len(part)).asnumpy() for part in _parts(arrays)]
    return np.flatnonzero(~np.isfinite(np.concatenate(sums))).tolist() if sums else []


def _all_finite(arrays: list[mx.nd.NDArray]) -> bool:
    # Exact, and on a CPU about twenty times slower than `not_finite`.
    return all(mx.nd.multi_all_finite(*part, num_arrays=len(part)).asscalar() for part in _parts(arrays))


def _parts(arrays: list[mx.nd.NDArray]) -> list[list[mx.nd.NDArray]]:
    return [arrays[begin : begin + _AT_ONCE] for begin in range(0, len(arrays), _AT_ONCE)]


class LossScale:
    """Dynamic loss scaling: a factor of the loss's gradient, which the optimizer divides out again.

    It is halved when a gradient is not finite, and doubled after 2,000 updates in a row with finite gradients. It stays a
    power of two times its first value, so that scaling rounds nothing. [Micikevicius et al., arXiv 1710.03740, section
    3.2]

    Attributes
    ----------
    value
        The factor.
    """

    def __init__(self, value: float) -> None:
        self.value, self._clean = float(value), 0

    def admits(self, gradients: list[list[mx.nd.NDArray]], *, all_reduce: Callable[[float], Any] = float) -> bool:
        """Return True where all gradients are finite, and adapt the scale. Waits for the gradients.

        Parameters
        ----------
        gradients
            Those of each device of this worker.
        all_reduce
            Sums a number over all workers, so that all decide the same.
        """
        finite = all_reduce(float(not all(_all_finite(arrays) for arrays in gradients))) == 0
        self._clean = self._clean + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self._clean == _PATIENCE and self.value < _MOST:
            self.value, self._clean = self.value * 2, 0
        return bool(finite)

    def state(self) -> mx.nd.NDArray:
        """Return what `load_state` takes, float64 (2,)."""
        return mx.nd.array([self.value, self._clean], dtype="float64")

    def load_state(self, state: mx.nd.NDArray) -> None:
        """Take what `state` returned."""
        value, clean = state.asnumpy()
        self.value, self._clean = float(value), int(clean)
