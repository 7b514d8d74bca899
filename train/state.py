"""What a run's folder says of the run: whether it was begun, with which settings and data, and how far it came."""

import dataclasses
import json
import logging
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError
from vargfacenet.train.states import FOLDER, States

DATA = "data.json"
_MAY_CHANGE = {"verify_every", "save_every", "log_every", "generations", "keep", "max_bad_share"}

log = logging.getLogger(__name__)


def seed_random(seed, generation, update, *, rank=0):
    """Seeds what MXNet draws, initial weights and dropout, as it is to be after an update of a generation.

    Each worker draws other numbers; the weights that count are those of worker 0. Done before every update, so that what
    an update draws does not depend on where the run was taken up.
    """
    parts = (seed, generation, update, rank) if rank else (seed, generation, update)
    mixed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    mx.random.seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002 - MXNet's initialisers draw from it


def warn_of_threads(out, saved, now):
    """Warn where the state in a folder was computed with another number of CPU threads than are in use now."""
    if saved is not None and now is not None and saved != now:
        log.warning(
            "%s was trained with %d CPU threads and goes on with %d: sums are added up in another order, so it will end "
            "within rounding of the unbroken run, not bit for bit; set OMP_NUM_THREADS=%d for the same number",
            out,
            saved,
            now,
            saved,
        )


def saved_update(out):
    """Updates behind the newest sound state in a run's folder.

    Raises
    ------
    SettingError
        Where there is no run.
    CheckpointError
        Where no state is sound.
    """
    out = pathlib.Path(out)
    if is_started(out):
        return States(out).newest()["update"]
    if out.name == "generation-1" and is_started(out.parent):
        raise SettingError(
            f"{out.parent} holds a run of one generation; more need a run of their own, in another --out"
        )
    raise SettingError(f"{out} holds no run to resume (nothing in {FOLDER}); leave --resume out to start one")


def check_settings(out, config, *, force=False):
    """SettingError where there is no run in a folder, or, naming what differs, where its settings are not `config`.

    With `force` what differs is logged.
    """
    saved_update(out)
    given = json.loads(config.to_json())
    names = [field.name for field in dataclasses.fields(config) if field.name not in _MAY_CHANGE]
    # Settings that are newer than the run had their defaults.
    saved = {**json.loads(type(config)().to_json()), **States(out).newest()["settings"]}
    _compare(out, "with other settings", saved, {name: given[name] for name in names}, force)


def check_same_data(out, facts, *, force=False):
    """SettingError, naming what differs, where a folder's run was started on other data.

    `facts` are those that must be equal: dict of text to JSON values. With `force` what differs is logged.
    """
    _compare(out, "on other data", States(out).newest()["data"], facts, force)


def _compare(out, how, saved, given, force):
    changed = "; ".join(
        f"{name}: {saved.get(name)} then, {value} now" for name, value in given.items() if saved.get(name) != value
    )
    if changed and not force:
        raise SettingError(
            f"{out} was started {how} ({changed}); give the same to resume it, or --force to go on with what is new"
        )
    if changed:
        log.warning("%s was started %s, and goes on with what is new: %s", out, how, changed)


def is_started(out):
    """Whether a folder holds a state (bool)."""
    return bool(States(out))


def is_finished(out, config):
    """Whether a folder's state has all updates of its generation behind it (bool); SettingError where that has others."""
    if not is_started(out):
        return False
    check_settings(out, config)
    return saved_update(out) >= config.max_updates


def initial_state(out, trainer, *, keep_classifier):
    """What a generation starts from: the state that the one before left, without momentum.

    Without the classifier, that of `trainer` stays.
    """
    states = States(out)
    arrays = states.arrays(states.newest(told=True)["update"])
    saved = {key: value for key, value in arrays.items() if key.startswith(("arg:", "aux:"))}
    if not keep_classifier:
        fresh = trainer.state()
        saved = {key: value for key, value in saved.items() if not key.startswith(("arg:fc7", "aux:fc7"))}
        saved.update({key: value for key, value in fresh.items() if key.startswith(("arg:fc7", "aux:fc7"))})
    return saved


def check_unused(out):
    """SettingError where a folder already holds a run, of one generation or more, that got as far as its first save."""
    out = pathlib.Path(out)
    if is_started(out) or any(is_started(folder) for folder in out.glob("generation-*")):
        raise SettingError(f"{out} already holds a run; give --resume to go on with it, or another --out")
