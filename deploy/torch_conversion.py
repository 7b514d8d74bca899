"""Weights published as a PyTorch state dict, as a checkpoint of the network that they are of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import CheckpointError
from vargfacenet.formats.checkpoint import save_checkpoint
from vargfacenet.formats.torch_state import read_torch_state
from vargfacenet.symbols import get_symbol, parameter_order

_COUNTER = "num_batches_tracked"  # of BN in PyTorch; nothing depends on it


class TorchConversion(NamedTuple):
    """A state dict that was converted.

    Attributes
    ----------
    names
        Entries of the state dict, in order, and the parameters that they became.
    left_out
        Entries that the network does not have: BN's counters.
    """

    names: dict[str, str]
    left_out: list[str]


def convert_torch_state(
    path: str | os.PathLike, out: str | os.PathLike, network: str, *, out_epoch: int = 0, **options: object
) -> TorchConversion:
    """Write the weights in a PyTorch file as a checkpoint.

    Entries are taken in the order of the file, which is that in which the source makes its layers, and have to agree with
    `vargfacenet.symbols.parameter_order` in number and shape; names are not looked at. A fully connected layer and a 1x1
    convolution of the same numbers are one.

    Parameters
    ----------
    path
        Of the file, a state dict as ``torch.save(model.state_dict(), path)`` writes it.
    out, out_epoch
        The checkpoint to write.
    network, **options
        What it is, as in `vargfacenet.symbols.get_symbol`.

    Raises
    ------
    CheckpointError
        Where the file cannot be read or its entries are not those of the network, naming the first that differs. Nothing is
        written.
    SettingError
        For an unknown network or option.
    """
    symbol, order = get_symbol(network, **options), parameter_order(network, **options)
    entries = read_torch_state(path)
    left_out = [name for name in entries if name.rpartition(".")[2] == _COUNTER]
    entries = {name: value for name, value in entries.items() if name not in set(left_out)}
    told = " ".join([network, *(f"{name}={value}" for name, value in options.items())])
    if len(entries) != len(order):
        raise CheckpointError(
            f"{path} has {len(entries)} entries, {told} has {len(order)}: they are not the same network; a classifier or "
            "another size, perhaps"
        )
    args, _, auxs = symbol.infer_shape(data=(1, *IMAGE_SHAPE))
    shapes = dict(zip([*symbol.list_arguments(), *symbol.list_auxiliary_states()], [*args, *auxs]))
    arrays = {}
    for place, ((name, value), parameter) in enumerate(zip(entries.items(), order), 1):
        shape = shapes[parameter]
        if _without_trailing_ones(value.shape) != _without_trailing_ones(shape):
            raise CheckpointError(
                f"{path}: entry {place} ({name}) has shape {value.shape}, {parameter} of {told} has {tuple(shape)}: they are "
                "not the same network, or its layers come in another order"
            )
        arrays[parameter] = mx.nd.array(value.astype(np.float32).reshape(shape))
    states = set(symbol.list_auxiliary_states())
    parameters = {name: value for name, value in arrays.items() if name not in states}
    save_checkpoint(out, out_epoch, symbol, parameters, {name: arrays[name] for name in states})
    return TorchConversion(dict(zip(entries, order)), left_out)


def _without_trailing_ones(shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
