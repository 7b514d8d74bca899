"""Memory of batches that Python fills and MXNet reads without a copy."""

from __future__ import annotations

import ctypes
import sys
import threading

import mxnet as mx
import numpy as np

_UNUSED = 2  # references to an array that nobody else holds: from the list, and from the call that counts them


class ArrayPool:
    """Arrays of one shape that are reused once nobody holds them.

    Allocating memory for an image takes the operating system as long as decoding the image.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._arrays: list[mx.nd.NDArray] = []
        self._lock = threading.Lock()

    def take(self) -> mx.nd.NDArray:
        """Return a float32 array on the CPU, with arbitrary content, that nobody else holds."""
        with self._lock:
            for place in range(len(self._arrays)):
                if sys.getrefcount(self._arrays[place]) == _UNUSED:
                    free = self._arrays[place]
                    break
            else:
                free = mx.nd.empty(self._shape)
                self._arrays.append(free)
        mx.base.check_call(mx.base._LIB.MXNDArrayWaitToWrite(free.handle))  # the engine may still read it
        return free


def numpy_view(array: mx.nd.NDArray) -> np.ndarray:
    """Return a NumPy array that shares the memory of a float32 NDArray on the CPU."""
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), array.shape)
