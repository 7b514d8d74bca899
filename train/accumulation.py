"""Parts of a batch that a Module computes one after another, with gradients that add up."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from vargfacenet.train.engine import Arrays


class Accumulation:
    """Makes one update of several parts of a batch.

    A part is what a device is: BN takes its statistics by itself, and its running statistics are its own until they are
    averaged. Several parts on one device therefore compute what as many devices do.

    Parameters
    ----------
    module
        Bound to the shapes of a part.
    parts
        Number of parts.
    names
        Of the outputs.
    """

    def __init__(self, module: Any, parts: int, names: list[str]) -> None:
        group = module._exec_group
        self._module, self._parts, self._names = module, parts, names
        self._gradients = [one for arrays in group.grad_arrays if arrays[0] is not None for one in arrays]
        self._sums = [mx.nd.zeros_like(one) for one in self._gradients]
        self._current = [one for arrays in group.aux_arrays for one in arrays]
        self._own = [[one.copy() for one in self._current] for _ in range(parts)]

    def descend(self, data: list[mx.nd.NDArray], labels: list[mx.nd.NDArray]) -> Arrays:
        """Leave the gradients of all parts, summed, in the Module's arrays, and return the outputs of all samples."""
        found: list[list[mx.nd.NDArray]] = []
        length = len(data[0]) // self._parts
        for number, own in enumerate(self._own):
            part = slice(number * length, (number + 1) * length)
            _copy(own, self._current)
            self._module.forward(mx.io.DataBatch([one[part] for one in data], [one[part] for one in labels]), True)
            found.append([output.copy() for output in self._module.get_outputs()])
            self._module.backward()
            mx.nd.waitall()  # BN's gradient writes the running statistics without telling MXNet's engine
            _copy(self._current, own)
            for total, gradient in zip(self._sums, self._gradients):
                total[:] = gradient if number == 0 else total + gradient
        _copy(self._sums, self._gradients)
        return {name: mx.nd.concat(*outputs, dim=0) for name, outputs in zip(self._names, zip(*found))}

    def average(self) -> None:
        """Give the Module the running statistics' mean over parts."""
        for place, current in enumerate(self._current):
            current[:] = sum(own[place] for own in self._own[1:]) + self._own[0][place]
            current /= self._parts

    def spread(self) -> None:
        """Give every part the Module's running statistics."""
        for own in self._own:
            _copy(self._current, own)


def _copy(source: list[mx.nd.NDArray], target: list[mx.nd.NDArray]) -> None:
    for one, other in zip(source, target):
        one.copyto(other)
