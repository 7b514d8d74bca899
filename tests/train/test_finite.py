"""What is not finite is found."""

import mxnet as mx
import numpy as np

from vargfacenet.train.finite import not_finite


def test_numbers_that_are_not_finite_are_found_among_any_number_of_arrays():
    arrays = [mx.nd.ones((2, 3)) for _ in range(450)]
    assert not_finite(arrays) == []
    for place, value in ((3, np.nan), (199, np.inf), (200, -np.inf), (449, np.nan)):
        arrays[place][1, 2] = value
    assert not_finite(arrays) == [3, 199, 200, 449]
    assert not_finite([]) == []
