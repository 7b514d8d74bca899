"""Callbacks from outside: what else happens next to the updates of a run.

Another package adds its own by `register_callback`, or by entry points of the group ``vargfacenet.callbacks``; the setting
``callbacks`` turns them on.
"""

import dataclasses
import inspect
import pathlib
from typing import Any, Callable, NamedTuple, Union

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import Setting, declared_settings
from vargfacenet.registry import Registry
from vargfacenet.train.engine import Arrays, StepResult, TrainerProtocol


class TrainingContext(NamedTuple):
    """The generation that a callback is made for.

    Attributes
    ----------
    config
        The settings of the run, a `vargfacenet.train.Config`.
    trainer
        Its trainer, whose ``parameters()`` are parameters and running statistics: two dicts of name to NDArray.
    embedding
        The plain embedding graph, as it is saved.
    out
        The folder of the generation.
    generation
        Its number, 1 the first.
    num_identities
        Identities of the training set.
    """

    config: Any
    trainer: TrainerProtocol
    embedding: mx.sym.Symbol
    out: pathlib.Path
    generation: int
    num_identities: int


def written_weights(config: Any, trainer: TrainerProtocol) -> tuple[Arrays, Arrays]:
    """Return the parameters and running statistics that the settings want to be verified and written to checkpoints."""
    return trainer.averages() if config.writes_averages else trainer.parameters()


class UpdateResult(NamedTuple):
    """An update that was made.

    Attributes
    ----------
    update
        Its number in the generation, 1 the first.
    means
        Mean of each output of the trainer over the images of all workers, such as ``loss``, which was minimised.
    seconds
        Seconds spent on updates so far, without callbacks.
    step
        What this worker computed.
    """

    update: int
    means: dict[str, float]
    seconds: float
    step: StepResult


class Callback:
    """Base of callbacks, which does nothing."""

    def needs_parameters(self, update: int) -> bool:
        """Return True where `after_update` reads the trainer's parameters after an update.

        It must depend on settings and `update` alone: with several workers each asks it, and all synchronise where it is
        true. `after_update` and `close` are called in worker 0 only. Without it `after_update` may be called when the next
        update has been started.
        """
        return False

    def after_update(self, result: UpdateResult) -> None:
        """Act after an update."""

    def close(self) -> None:
        """Act when the generation ends or is stopped."""


@dataclasses.dataclass(frozen=True)
class RegisteredCallback:
    """A callback from outside: ``make(context, **options)`` gives a `Callback`."""

    name: str
    make: Callable[..., Callback]
    options: dict[str, Setting]


def _make(name: str, factory: Callable[..., Callback]) -> RegisteredCallback:
    parameters = inspect.signature(factory).parameters.values()
    positional = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 1:
        raise SettingError(f"callback {name} takes ({', '.join(positional)}): expected (context), and options after *")
    function = factory.__init__ if inspect.isclass(factory) else factory
    return RegisteredCallback(name, factory, declared_settings(function))


CALLBACKS: Registry[RegisteredCallback] = Registry("callback", "vargfacenet.callbacks", _make)


def register_callback(name: Union[str, Callable[..., Callback], None] = None) -> Any:
    """Add a callback: a decorator of a class or function, with or without a name.

    It is called with a `TrainingContext` and returns a `Callback`; its keyword-only options, each with type and default,
    become settings.

    Raises
    ------
    SettingError
        Where it is of another form, or the name is taken.
    """

    def register(factory: Callable[..., Callback]) -> Callable[..., Callback]:
        given = name if isinstance(name, str) else factory.__name__
        CALLBACKS.add(given, _make(given, factory), source=factory.__module__)
        return factory

    return register(name) if callable(name) else register


def make_callbacks(context: TrainingContext) -> list[Callback]:
    """Make the registered callbacks that the settings name, in their order."""
    config = context.config
    return [CALLBACKS[name].make(context, **config.callback_options[name]) for name in config.callbacks]


class OnlyParameters(Callback):
    """A callback in the workers that write nothing: it waits where the first worker's does, and does nothing.

    It is not closed either: workers share the run's folder, where its `Callback.close` would write over the first worker's.
    """

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    def needs_parameters(self, update: int) -> bool:
        return self._callback.needs_parameters(update)
