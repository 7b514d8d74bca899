"""Files of named arrays as ``mx.nd.save`` writes them, byte for byte, but with every failure of the disk reported.

MXNet writes through a buffer whose last part it hands to the system without looking whether that was taken: on a full disk
a file may be cut, and no error raised.
"""

import struct

import numpy as np

_LIST, _ARRAY, _DENSE, _CPU = 0x112, 0xF993FAC9, 0, 1  # magic numbers and codes of include/mxnet/ndarray.h
_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def write_arrays(file, arrays):
    """Writes arrays (dict of str to NDArray, each of one dimension or more) to a file that is open for writing bytes.

    Arrays are brought to the CPU one at a time.
    """
    file.write(struct.pack("<QQQ", _LIST, 0, len(arrays)))
    for array in arrays.values():
        values = np.ascontiguousarray(array.asnumpy())
        shape = struct.pack(f"<i{values.ndim}q", values.ndim, *values.shape)
        kind = _TYPES[values.dtype.name]
        file.write(struct.pack("<Ii", _ARRAY, _DENSE) + shape + struct.pack("<iii", _CPU, 0, kind))
        file.write(values.data.cast("B"))
    file.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        text = name.encode()
        file.write(struct.pack("<Q", len(text)) + text)
