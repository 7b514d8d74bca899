"""Find what is not finite in many arrays at once."""

from __future__ import annotations

import mxnet as mx
import numpy as np

_AT_ONCE = 200  # arrays that one call of MXNet's multi-array operators takes; with more, it writes out of bounds


def not_finite(arrays: list[mx.nd.NDArray]) -> list[int]:
    """Return the places of the arrays, all on one device, that hold NaN, infinity, or numbers whose squares add up to that.

    Waits for the arrays.
    """
    sums = [mx.nd.multi_sum_sq(*part, num_arrays=len(part)).asnumpy() for part in _parts(arrays)]
    return np.flatnonzero(~np.isfinite(np.concatenate(sums))).tolist() if sums else []


def _parts(arrays: list[mx.nd.NDArray]) -> list[list[mx.nd.NDArray]]:
    return [arrays[begin : begin + _AT_ONCE] for begin in range(0, len(arrays), _AT_ONCE)]
