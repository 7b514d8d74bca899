"""The setting ``init``: start from the weights of a checkpoint."""

from __future__ import annotations

import logging

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.formats.checkpoint import Arrays, Checkpoint, checkpoint_files, load_checkpoint, split_epoch
from vargfacenet.formats.files import fingerprint
from vargfacenet.train.engine import TrainerProtocol

_MOST_NAMES = 20  # that a line of the log holds

log = logging.getLogger(__name__)


def read_initial_weights(init: str) -> Checkpoint:
    """Read the checkpoint that the setting ``init`` names: PREFIX, PREFIX,EPOCH or a bundled network.

    SettingError for an ONNX file; otherwise errors are those of `load_checkpoint`.
    """
    prefix, epoch = split_epoch(init)
    if prefix.endswith(".onnx"):
        raise SettingError(f"init={init}: an ONNX file holds no trainable network; expected PREFIX or PREFIX,EPOCH")
    return load_checkpoint(prefix, epoch)


def set_initial_weights(init: str, trainer: TrainerProtocol, embedding: mx.sym.Symbol) -> None:
    """Give a new trainer the parameters and running statistics of a checkpoint that fit its network by name and shape.

    The log names the others, which stay as they were drawn, as does the classifier.

    Parameters
    ----------
    init
        The setting ``init``, not none.
    trainer
        Just made.
    embedding
        The plain embedding graph of its network.

    Raises
    ------
    SettingError
        Where no weight of a layer fits.
    CheckpointError
        Where the checkpoint cannot be read.
    """
    checkpoint = read_initial_weights(init)
    args, auxs = trainer.parameters()
    names = [name for name in embedding.list_arguments() if name != "data"]
    both = ((names, args, checkpoint.args), (embedding.list_auxiliary_states(), auxs, checkpoint.auxs))
    kept: list[str] = []
    fitting: Arrays = {}
    for own, values, given in both:
        for name in own:
            reason = _misfit(values[name], given.get(name))
            if reason:
                kept.append(f"{name} ({reason})")
            else:
                fitting[name] = given[name]
    if not any(value.ndim > 1 for value in fitting.values()):
        raise SettingError(
            f"init={init}: no layer of it fits the network of these settings: {', '.join(kept[:3])} ...; give a checkpoint "
            "of the same network, or other settings of the network"
        )
    trainer.set_parameters(*({name: fitting.get(name, value) for name, value in own.items()} for own in (args, auxs)))
    mark = fingerprint(checkpoint_files(*split_epoch(init)))[:12]
    log.info("init=%s: starts from %d of %d arrays, fingerprint %s", init, len(fitting), len(fitting) + len(kept), mark)
    unused = len(checkpoint.args) + len(checkpoint.auxs) - len(fitting)
    if kept:
        more = f" and {len(kept) - _MOST_NAMES} more" if len(kept) > _MOST_NAMES else ""
        log.warning("init=%s: newly drawn are %s%s", init, ", ".join(kept[:_MOST_NAMES]), more)
    if unused:
        log.warning("init=%s: %d of the checkpoint's arrays are not used", init, unused)


def _misfit(own: mx.nd.NDArray, given: mx.nd.NDArray | None) -> str:
    """Return the reason for which an array cannot replace another; an empty text where it can."""
    if given is None:
        return "missing"
    return "" if given.shape == own.shape else f"shape {tuple(given.shape)}, here {tuple(own.shape)}"
