"""The names of networks, identity losses and distillation losses, and the decorators that add to them.

Another package adds its own by these decorators, or by entry points of the groups ``vargfacenet.networks``,
``vargfacenet.losses`` and ``vargfacenet.distillations``. The keyword-only options of a builder become settings of a run.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Callable, Optional, TypeVar, Union

import mxnet as mx

from vargfacenet.errors import SettingError
from vargfacenet.options import Setting, declared_settings
from vargfacenet.registry import Registry

Builder = TypeVar("Builder", bound=Callable[..., Any])

# A builder of a loss gets these besides its own options, where it names them.
SIZES = ("num_identities", "embedding_size")
_LOSS_INPUTS, _DISTILLATION_INPUTS = ("embedding", "label", "teacher"), ("student", "teacher", "label")
DRAW_INPUTS = ("embedding", "label", "draw")  # of an identity loss whose margins are drawn


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that `vargfacenet.symbols.get_symbol` builds.

    Attributes
    ----------
    build
        Gives the graph; all its parameters are keyword-only options.
    options
        Their declarations, ``embedding_size`` among them.
    """

    name: str
    build: Callable[..., mx.sym.Symbol]
    options: dict[str, Setting]


@dataclasses.dataclass(frozen=True)
class Loss:
    """An identity loss or a distillation loss.

    Attributes
    ----------
    build
        Gives the graph of the loss from its inputs, sizes and options.
    inputs
        The names of its positional parameters: of an identity loss ``embedding``, ``label``, and ``teacher`` where it reads
        the teacher's embeddings, or ``draw`` where its sharded margin draws a number for each sample; of a distillation loss
        ``student``, ``teacher``, and ``label`` where it reads identities.
    sizes
        Those of `SIZES` that it names.
    options
        The declarations of its other keyword-only options.
    sharded
        For an identity loss that ``head=sharded`` can compute: a function of the options that gives the margin for
        `vargfacenet.train.classifier.ShardedClassifier`, None for plain softmax with a bias.
    alpha
        The published weight of a distillation loss, which `vargfacenet.train.resolve` takes unless another is given; None
        leaves the default of the setting ``alpha``.
    """

    name: str
    build: Callable[..., mx.sym.Symbol]
    inputs: tuple[str, ...]
    sizes: tuple[str, ...]
    options: dict[str, Setting]
    sharded: Optional[Callable[..., Any]] = None
    alpha: Optional[float] = None

    def __call__(
        self, *, num_identities: int, embedding_size: int, options: Mapping[str, Any], **inputs: Any
    ) -> mx.sym.Symbol:
        """Return the graph; of `inputs` and sizes, those that the loss does not name are left out."""
        sizes = {"num_identities": num_identities, "embedding_size": embedding_size}
        named = {name: sizes[name] for name in self.sizes}
        return self.build(*(inputs[name] for name in self.inputs), **named, **options)


def _make_network(name: str, builder: Callable[..., mx.sym.Symbol]) -> Network:
    positional = _positional(builder)
    if positional:
        raise SettingError(f"network {name}: {positional[0]} is positional; expected keyword-only options, after *")
    options = declared_settings(builder)
    if "embedding_size" not in options:
        raise SettingError(f"network {name}: expected an option embedding_size, the numbers in an embedding")
    return Network(name, builder, options)


def _make_loss(name: str, builder: Callable[..., Any], *, sharded: Optional[Callable[..., Any]] = None) -> Loss:
    return _checked_loss("loss", name, builder, _LOSS_INPUTS, sharded)


def _make_distillation(name: str, builder: Callable[..., Any], *, alpha: Optional[float] = None) -> Loss:
    loss = _checked_loss("distillation loss", name, builder, _DISTILLATION_INPUTS, None)
    return dataclasses.replace(loss, alpha=alpha)


def _checked_loss(
    kind: str,
    name: str,
    builder: Callable[..., Any],
    known: tuple[str, str, str],
    sharded: Optional[Callable[..., Any]],
) -> Loss:
    inputs = _positional(builder)
    if inputs not in (known[:2], known, *([DRAW_INPUTS] if sharded else [])):
        raise SettingError(
            f"{kind} {name} takes ({', '.join(inputs)}): expected ({', '.join(known[:2])}), and {known[2]} where it needs "
            "that; its options stand after *"
        )
    sizes = tuple(one for one in SIZES if one in inspect.signature(builder).parameters)
    return Loss(name, builder, inputs, sizes, declared_settings(builder, skip=SIZES), sharded)


def _positional(builder: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(builder).parameters.values()
    return tuple(one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD))


_COSFACE = "CosFace is loss=margin with m2=0 m3=0.35"
_COMBINED_MARGINS = {
    "arcface": "ArcFace is loss=margin with m2=0.5, its default",
    "cosface": _COSFACE,
    "amsoftmax": f"AM-softmax is CosFace; {_COSFACE}",
    "sphereface": "SphereFace is loss=margin with m1 above 1 and m2=0",
    "combined": "the combined margin is loss=margin with m1, m2 and m3",
    "combinedmargin": "the combined margin is loss=margin with m1, m2 and m3",
}
NETWORKS: Registry[Network] = Registry("network", "vargfacenet.networks", _make_network)
LOSSES: Registry[Loss] = Registry(
    "loss", "vargfacenet.losses", _make_loss, reserved=("none",), instead=_COMBINED_MARGINS
)
DISTILLATIONS: Registry[Loss] = Registry(
    "distillation", "vargfacenet.distillations", _make_distillation, reserved=("none",)
)


def register_network(name: Union[str, Builder, None] = None) -> Any:
    """Add a network: a decorator, with or without a name; the function's own name is taken by default.

    The function's parameters are keyword-only options with type and default, ``embedding_size`` among them. It returns a
    Symbol whose one output is the embedding, (N, embedding_size), of ``data``: RGB, (N, 3, 112, 112), 0..255.

    Raises
    ------
    SettingError
        Where the function is of another form, or the name is taken.
    """
    return _decorator(NETWORKS, name, _make_network)


def register_loss(name: Union[str, Builder, None] = None, *, sharded: Optional[Callable[..., Any]] = None) -> Any:
    """Add an identity loss: a decorator, with or without a name.

    The function takes ``(embedding, label)``, Symbols of (N, embedding_size) and (N,), and of the keyword-only
    ``num_identities`` and ``embedding_size`` those that it names; its other keyword-only options, each with type and default,
    become settings. It returns a group of two Symbols: the loss of each sample, (N,), and 1 or 0, (N,), for whether the
    label is the nearest identity. Weights of the classifier have names that begin with ``fc7``. A loss with a third
    parameter ``teacher`` is given the teacher's embeddings, (N, embedding_size).

    Parameters
    ----------
    sharded
        See `Loss`; without it, ``head=sharded`` is refused.

    Raises
    ------
    SettingError
        Where the function is of another form, or the name is taken.
    """

    def make(given: str, builder: Callable[..., Any]) -> Loss:
        return _make_loss(given, builder, sharded=sharded)

    return _decorator(LOSSES, name, make)


def register_distillation(name: Union[str, Builder, None] = None, *, alpha: Optional[float] = None) -> Any:
    """Add a distillation loss: a decorator, with or without a name.

    The function takes ``(student, teacher)``, Symbols of (N, embedding_size), and a third parameter ``label``, (N,), where
    it reads identities. Options are those of `register_loss`. It returns the loss of each sample, (N,). The teacher's
    embeddings get no gradient.

    Parameters
    ----------
    alpha
        See `Loss`.

    Raises
    ------
    SettingError
        Where the function is of another form, or the name is taken.
    """

    def make(given: str, builder: Callable[..., Any]) -> Loss:
        return _make_distillation(given, builder, alpha=alpha)

    return _decorator(DISTILLATIONS, name, make)


def _decorator(registry: Registry[Any], name: Any, make: Callable[[str, Any], Any]) -> Any:
    def register(builder: Builder) -> Builder:
        given = name if isinstance(name, str) else builder.__name__
        registry.add(given, make(given, builder), source=builder.__module__)
        return builder

    return register(name) if callable(name) else register
