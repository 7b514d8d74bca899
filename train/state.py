"""The state of a run: everything the next update depends on, in one file that is whole or absent."""

import dataclasses
import json
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.files import atomic_path, read_bytes
from vargfacenet.params import load_params

STATE, DATA = "state.params", "data.json"
_MAY_CHANGE = {"verify_every", "save_every", "log_every", "generations", "max_bad_share"}


def save_state(out, trainer, update):
    """Writes the state of a trainer after `update` updates."""
    with atomic_path(pathlib.Path(out) / STATE) as temporary:
        # float64 holds any update exactly.
        mx.nd.save(str(temporary), {**trainer.state(), "meta:update": mx.nd.array([update], dtype="float64")})


def load_state(out, trainer):
    """Gives a trainer the state that a run's folder holds."""
    trainer.load_state(_read(out))


def seed_random(seed, generation, update, *, rank=0):
    """Seeds what MXNet draws, initial weights and dropout, as it is to be after an update of a generation.

    Each worker draws other numbers; the weights that count are those of worker 0. Done when a state is saved and when it
    is loaded, so that a run goes on alike from both.
    """
    parts = (seed, generation, update, rank) if rank else (seed, generation, update)
    mixed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    mx.random.seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002 - MXNet's initialisers draw from it


def saved_update(out, config):
    """Updates behind the state in a run's folder.

    Raises
    ------
    SettingError
        Where there is no run, or its settings are not `config`, naming what differs.
    CheckpointError
        Where the state is damaged.
    """
    out = pathlib.Path(out)
    if not (out / STATE).is_file():
        if out.name == "generation-1" and (out.parent / STATE).is_file():
            raise SettingError(
                f"{out.parent} holds a run of one generation; more need a run of their own, in another --out"
            )
        raise SettingError(f"{out} holds no run to resume (no {STATE}); leave --resume out to start one")
    saved, given = _settings(out / "config.json"), json.loads(config.to_json())
    names = [field.name for field in dataclasses.fields(config) if field.name not in _MAY_CHANGE]
    changed = [f"{name}: {saved.get(name)} then, {given[name]} now" for name in names if saved.get(name) != given[name]]
    if changed:
        raise SettingError(f"{out} was started with other settings ({'; '.join(changed)}); give the same to resume it")
    return int(_read(out)["meta:update"].asscalar())


def is_started(out):
    """Whether a folder holds a state (bool)."""
    return (pathlib.Path(out) / STATE).is_file()


def is_finished(out, config):
    """Whether a folder's state has all updates of its generation behind it (bool)."""
    return is_started(out) and saved_update(out, config) >= config.max_updates


def initial_state(out, trainer, *, keep_classifier):
    """What a generation starts from: the state that the one before left, without momentum.

    Without the classifier, that of `trainer` stays.
    """
    saved = {key: value for key, value in _read(out).items() if key.startswith(("arg:", "aux:"))}
    if not keep_classifier:
        fresh = trainer.state()
        saved = {key: value for key, value in saved.items() if not key.startswith("arg:fc7")}
        saved.update({key: value for key, value in fresh.items() if key.startswith("arg:fc7")})
    return saved


def check_same_data(out, facts):
    """SettingError, naming what differs, where a folder's run was started on other data.

    `facts` are those that must be equal: dict of text to JSON values.
    """
    saved = _settings(pathlib.Path(out) / DATA)
    changed = [
        f"{name}: {saved.get(name)} then, {value} now" for name, value in facts.items() if saved.get(name) != value
    ]
    if changed:
        raise SettingError(f"{out} was started on other data ({'; '.join(changed)}); give the same to resume it")


def _settings(path):
    try:
        settings = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is damaged; the run cannot be resumed without it")
    return settings


def check_unused(out):
    """SettingError where a folder already holds a run, of one generation or more, that got as far as its first save."""
    out = pathlib.Path(out)
    if (out / STATE).exists() or any(out.glob(f"generation-*/{STATE}")):
        raise SettingError(f"{out} already holds a run; give --resume to go on with it, or another --out")


def _read(out):
    path = pathlib.Path(out) / STATE
    try:
        state = load_params(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; start the run again from its checkpoint 'latest'") from error
    if "meta:update" not in state:
        raise CheckpointError(f"{path} holds no state of a run")
    return state
