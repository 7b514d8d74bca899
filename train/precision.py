"""Half precision: where it can be had, and the scale that keeps small gradients from vanishing in it."""

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError

_PATIENCE = 2000  # updates without an overflow after which the scale is doubled
_MOST = 2.0**24
_AT_ONCE = 200  # arrays that MXNet's operators on many take; beyond, one writes where it must not


def check_precision(precision, devices):
    """SettingError where a device (list of mx.Context) has no products of float16 matrices, as MXNet's CPUs have not."""
    cpus = [str(device) for device in devices if device.device_type == "cpu"]
    if precision == "float16" and cpus:
        raise SettingError(
            f"precision=float16 on {', '.join(cpus)}: MXNet has no float16 convolutions on CPUs; give --devices gpu:0, or "
            "precision=float32"
        )


def not_finite(arrays):
    """Places in a list of NDArrays on one device where one holds NaN or infinity, or numbers whose squares add up to that
    (list of int). Waits for them."""
    sums = [mx.nd.multi_sum_sq(*part, num_arrays=len(part)).asnumpy() for part in _parts(arrays)]
    return np.flatnonzero(~np.isfinite(np.concatenate(sums))).tolist() if sums else []


def _all_finite(arrays):
    # Exact, and on a CPU some twenty times slower.
    return all(mx.nd.multi_all_finite(*part, num_arrays=len(part)).asscalar() for part in _parts(arrays))


def _parts(arrays):
    return [arrays[begin : begin + _AT_ONCE] for begin in range(0, len(arrays), _AT_ONCE)]


class LossScale:
    """A factor of the loss's gradient, which the optimizer takes out again: dynamic loss scaling.

    Halved where a gradient is infinite or not a number, and doubled after 2,000 updates in a row in which none was; always
    a power of two times what it began with, so that scaling rounds nothing. [Micikevicius et al., arXiv 1710.03740, section
    3.2]

    Attributes
    ----------
    value : float
        The factor.
    """

    def __init__(self, value):
        self.value, self._clean = float(value), 0

    def admits(self, gradients, *, total=float):
        """Whether all gradients are finite; waits for them, and moves the scale.

        Parameters
        ----------
        gradients : list of lists of NDArray
            Of each device of this worker.
        total : callable
            Sums a number over all workers, so that all admit the same; the number itself by default.
        """
        finite = total(float(not all(_all_finite(arrays) for arrays in gradients))) == 0
        self._clean = self._clean + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self._clean == _PATIENCE and self.value < _MOST:
            self.value, self._clean = self.value * 2, 0
        return finite

    def state(self):
        """What `load_state` takes: NDArray (2,)."""
        return mx.nd.array([self.value, self._clean], dtype="float64")

    def load_state(self, state):
        value, clean = state.asnumpy()
        self.value, self._clean = float(value), int(clean)
