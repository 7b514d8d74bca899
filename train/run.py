"""A training run: from records to updates to a verified checkpoint."""

import collections
import contextlib
import json
import logging
import pathlib
import time

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.data import Augmentation, FaceIterator, RecordSet
from vargfacenet.errors import SettingError, TrainingError
from vargfacenet.eval import read_sets
from vargfacenet.files import write_text
from vargfacenet.operators import runnable
from vargfacenet.symbols.heads import margin_softmax, softmax
from vargfacenet.train.callbacks import LOG, Keeper, Progress, Verifier
from vargfacenet.train.schedule import learning_rate_schedule
from vargfacenet.train.state import DATA, check_same_data, check_unused, load_state, saved_update
from vargfacenet.train.trainer import Trainer

log = logging.getLogger(__name__)

Result = collections.namedtuple("Result", "out updates seconds verifications best_update")
Result.__doc__ = """What a run left: its folder, updates done and seconds taken by this call, verifications
(dict of update to dict of set name to Verification fields), and the update of the best checkpoint (None: not verified).
"""


def train(config, *, data, out, bins=(), devices=None, resume=False):
    """Trains a network and leaves its checkpoints, log, settings and state in a folder.

    Parameters
    ----------
    config : Config
        The settings.
    data : path
        Folder of the training set.
    out : path
        Folder of the run: ``config.json``, ``log.jsonl``, ``verification.json``, checkpoints ``latest`` and ``best``
        (by mean accuracy over `bins`), and ``state.params``, from which the run can be taken up.
    bins : sequence of path
        Verification sets, scored before the first update, every `verify_every` updates and at the end.
    devices : list of mx.Context, optional
        The CPU by default.
    resume : bool
        Goes on where the folder's state stands; without, the folder must hold no run.

    Returns
    -------
    Result

    Raises
    ------
    SettingError, DataError, TrainingError
        Before anything is written where possible.
    """
    out, devices = pathlib.Path(out), devices or [mx.cpu()]
    pairs = read_sets(bins)
    records = RecordSet(data)
    if (records.height, records.width) != IMAGE_SHAPE[1:]:
        raise SettingError(
            f"{records.path} holds {records.height}x{records.width} pictures, networks here take 112x112"
        )
    sets = {"pictures": len(records), "identities": records.num_identities, "verification": sorted(pairs)}
    first_update = 0
    if resume:
        first_update = saved_update(out, config)
        check_same_data(out, sets)
    else:
        check_unused(out)

    mx.random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002 - MXNet's initialisers draw from it
    embedding = config.build_symbol()
    trainer = Trainer(
        training_graph(embedding, config, records.num_identities, devices[0]),
        data_shape=(config.batch_size, *IMAGE_SHAPE),
        devices=devices,
        schedule=learning_rate_schedule(
            lr=config.lr,
            max_updates=config.max_updates,
            schedule=config.schedule,
            warmup_updates=config.warmup_updates,
            lr_steps=config.lr_steps,
            lr_factor=config.lr_factor,
            lr_final=config.lr_final,
        ),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_gradient=config.clip_gradient,
        first_update=first_update,
    )
    if resume:
        load_state(out, trainer)
        log.info("resuming %s at update %d of %d", out, first_update, config.max_updates)
    write_text(out / "config.json", config.to_json())
    write_text(out / DATA, json.dumps(sets, indent=1) + "\n")
    _begin_log(out, first_update)
    iterator = FaceIterator(
        records,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=Augmentation(
            mirror=config.mirror, color_jitter=config.color_jitter, cutoff=config.cutoff, compress=config.compress
        ),
        first_update=first_update,
        last_update=config.max_updates,
    )
    log.info(
        "%s: %d pictures of %d identities, %d updates of %d (%.1f epochs) on %s; settings in %s",
        records.path,
        len(records),
        records.num_identities,
        config.max_updates,
        config.batch_size,
        config.max_updates * config.batch_size / len(records),
        ", ".join(map(str, devices)),
        out / "config.json",
    )
    total = config.max_updates
    verifier = Verifier(
        embedding, trainer, pairs, out, devices[0], every=config.verify_every, total=total, resume=resume
    )
    progress = Progress(iterator, trainer.schedule, out, every=config.log_every, total=total)
    keeper = Keeper(embedding, trainer, out, every=config.save_every, total=total)
    begin = time.time()
    try:
        verifier.begin(first_update)
        fit(trainer, iterator, first_update, total, callbacks=(progress, verifier, keeper))
    finally:
        iterator.close()
        progress.close()
        records.close()
    seconds = time.time() - begin
    return Result(out, config.max_updates - first_update, seconds, verifier.verifications(), verifier.best_update)


def training_graph(embedding, config, num_identities, device=None):
    """The graph that is trained: the runnable form of an embedding graph with the classifier that `config` asks for."""
    symbol = runnable(embedding, for_training=True, device=device)
    label = mx.sym.var("softmax_label")
    if config.loss == "softmax":
        symbol = softmax(symbol, label, num_identities=num_identities)
    else:
        margins = {"m1": config.m1, "m2": config.m2, "m3": config.m3, "scale": config.scale}
        _, [(_, size)], _ = embedding.infer_shape(data=(1, *IMAGE_SHAPE))
        symbol = margin_softmax(symbol, label, num_identities=num_identities, embedding_size=size, **margins)
    if not config.decay_norm:
        internals = symbol.get_internals()
        for name in symbol.list_arguments():
            if name.endswith("_gamma"):  # scales of BN and slopes of PReLU
                internals[name]._set_attr(__wd_mult__="0")
    return symbol


def fit(trainer, iterator, first_update, last_update, *, callbacks):
    """Runs updates ``first_update + 1 .. last_update`` and calls each callback's ``after_update`` after each.

    A callback is given the update, its loss and accuracy, and the seconds spent training so far, callbacks left out.
    The loss of an update is read while the next one runs, so that the engine never stands still for it; only before
    a callback that needs the parameters is it waited for, so that none of a loss that is not finite are kept.
    """
    pending, seconds = None, 0.0
    for update in range(first_update + 1, last_update + 1):
        begin = time.perf_counter()
        outputs = trainer.step(iterator.next())
        done, pending = pending, (update, outputs)
        waits = update == last_update or any(callback.needs_parameters(update) for callback in callbacks)
        for item in (done, pending if waits else None):
            if item is None:
                continue
            values = _loss_and_accuracy(item, trainer)
            seconds += time.perf_counter() - begin
            for callback in callbacks:
                callback.after_update(*values, seconds)
            begin = time.perf_counter()
        if waits:
            pending = None
        seconds += time.perf_counter() - begin


def _loss_and_accuracy(item, trainer):
    """Waits for an update and gives it with its mean loss and accuracy; TrainingError where the loss is not finite."""
    update, (losses, correct, *_) = item
    loss = float(losses.asnumpy().mean())
    if not np.isfinite(loss):
        lr = trainer.schedule(update)
        raise TrainingError(
            f"update {update}: the loss is {loss} at learning rate {lr:g}; the checkpoints are of earlier updates. Try a "
            f"smaller lr (--set lr={lr / 10:g}), a longer warm-up (warmup_updates), or clip_gradient=1"
        )
    return update, loss, float(correct.asnumpy().mean())


def _begin_log(out, update):
    """Leaves of a run's log what was written up to an update: what follows will be written again."""
    lines = [line for line in read_log(out) if line["update"] <= update] if (out / LOG).is_file() else []
    write_text(out / LOG, "".join(json.dumps(line) + "\n" for line in lines))


def read_log(out):
    """The lines of a run's log (list of dict); one that was cut by a stop is left out."""
    lines = []
    for line in (pathlib.Path(out) / LOG).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines
