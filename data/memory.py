"""Memory for batches that MXNet reads and Python fills, without a copy between."""

import ctypes
import sys
import threading

import mxnet as mx
import numpy as np

_UNHELD = 2  # references to an array: the list's, and that of the call that counts them


class Arrays:
    """Arrays of one shape, used again when nobody holds them: the system takes as long to give new memory for an image
    as the image takes to be decoded."""

    def __init__(self, shape):
        self._shape = shape
        self._made = []
        self._lock = threading.Lock()

    def take(self):
        """An NDArray (float32, CPU) of any content that nobody else holds."""
        with self._lock:
            for place in range(len(self._made)):
                if sys.getrefcount(self._made[place]) == _UNHELD:
                    free = self._made[place]
                    break
            else:
                free = mx.nd.empty(self._shape)
                self._made.append(free)
        mx.base.check_call(mx.base._LIB.MXNDArrayWaitToWrite(free.handle))  # the engine may still be reading it
        return free


def memory_of(array):
    """The numbers of a float32 NDArray on the CPU as a NumPy array that shares them."""
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(address)))
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), array.shape)
