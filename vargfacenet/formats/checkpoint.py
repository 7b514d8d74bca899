"""Checkpoints of the lineage: ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.

Loaders elsewhere call ``mx.model.load_checkpoint(prefix, epoch)``, take ``fc1_output`` and bind the one input ``data``.
Therefore a checkpoint holds the plain published graph up to the embedding, without classifier weights.
"""

from __future__ import annotations

import contextlib
import difflib
import glob
import json
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import CheckpointError
from vargfacenet.formats.content import what_file_it_is
from vargfacenet.formats.files import PathLike, atomic_path, read_bytes
from vargfacenet.formats.graphs import first_line, read_graph
from vargfacenet.formats.params import load_params, write_params
from vargfacenet.models import find_model, list_models

_CASTS = ("Cast", "cast", "amp_cast")

Arrays = dict[str, mx.nd.NDArray]  # parameters or running statistics by name


class Checkpoint(NamedTuple):
    """An embedding graph with its parameters and running statistics, all float32."""

    symbol: mx.sym.Symbol
    args: Arrays
    auxs: Arrays


def load_checkpoint(prefix: PathLike, epoch: int, *, output: str | None = None) -> Checkpoint:
    """Read a checkpoint of this project or of the InsightFace lineage.

    Parameters
    ----------
    prefix, epoch
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``, epoch 0 .. 9999; the prefix may be the name of a bundled
        network.
    output
        The node whose output is the embedding, see `vargfacenet.formats.graphs.read_graph`. Nodes that it does not depend
        on, such as a classifier, are left out.

    Returns
    -------
    Checkpoint
        Exactly the parameters that the graph needs; others in the file are dropped.

    Raises
    ------
    CheckpointError
        Where a file is missing or unreadable, the graph has no such output, or a parameter is missing or misshapen.
    """
    symbol_file, params_file = existing_files(prefix, epoch)
    symbol = _without_casts(read_graph(symbol_file, output))
    saved = load_params(params_file)
    args, auxs = (_named(saved, kind) for kind in ("arg:", "aux:"))
    # Some tools write running statistics among the parameters. No name of a graph is of both kinds.
    auxs.update({name: args[name] for name in symbol.list_auxiliary_states() if name in args and name not in auxs})
    args.update(_wide_slopes(symbol, args))
    return Checkpoint(symbol, *fitting_parameters(symbol, args, auxs, str(params_file)))


def _named(saved: Arrays, kind: str) -> Arrays:
    """Return the arrays of a kind, and those whose names state no kind, as `Block.collect_params().save` writes them."""
    bare = {name: value for name, value in saved.items() if not name.startswith(("arg:", "aux:"))}
    return {**bare, **{name[len(kind) :]: value for name, value in saved.items() if name.startswith(kind)}}


def _wide_slopes(symbol: mx.sym.Symbol, args: Arrays) -> Arrays:
    """Return, one for each channel, the PReLU slopes that the file holds as a single number."""
    nodes = json.loads(symbol.tojson())["nodes"]
    reads = [node["inputs"][1][0] for node in nodes if node["op"] == "LeakyReLU" and len(node["inputs"]) == 2]
    slopes = {nodes[source]["name"] for source in reads}
    single = {name for name in slopes & set(args) if tuple(args[name].shape) == (1,)}
    if not single:
        return {}
    with contextlib.suppress(mx.base.MXNetError, ValueError):
        shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, *IMAGE_SHAPE))[0]))
        return {name: mx.nd.broadcast_to(args[name], shape=shapes[name]) for name in single}
    return {}


def fitting_parameters(
    symbol: mx.sym.Symbol, args: Mapping[str, mx.nd.NDArray], auxs: Mapping[str, mx.nd.NDArray], source: str
) -> tuple[Arrays, Arrays]:
    """Return the parameters and running statistics that `symbol` needs, as float32.

    CheckpointError names those that are missing or misshapen in `source`.
    """
    try:
        arg_shapes, out_shapes, aux_shapes = symbol.infer_shape(data=(1, *IMAGE_SHAPE))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"the graph of {source} does not fit faces of 112x112: {first_line(error)}") from error
    if out_shapes is None or len(out_shapes[0]) != 2:
        raise CheckpointError(
            f"the graph of {source} does not output one embedding for each 112x112 face, but shapes {out_shapes}"
        )
    needed = [
        ({n: s for n, s in zip(symbol.list_arguments(), arg_shapes) if n != "data"}, args),
        (dict(zip(symbol.list_auxiliary_states(), aux_shapes)), auxs),
    ]
    missing = [name for shapes, values in needed for name in shapes if name not in values]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(
            f"{source} lacks {len(missing)} parameter(s) of its graph: {', '.join(missing[:3])}{more}; "
            "was it saved by another network or option?"
        )
    for shapes, values in needed:
        for name, shape in shapes.items():
            if tuple(values[name].shape) != tuple(shape):
                raise CheckpointError(
                    f"{source}: {name} has shape {tuple(values[name].shape)}, its graph expects {tuple(shape)}"
                )
    args, auxs = ({name: values[name].astype("float32") for name in shapes} for shapes, values in needed)
    return args, auxs


def save_checkpoint(
    prefix: PathLike,
    epoch: int,
    symbol: mx.sym.Symbol,
    args: Mapping[str, mx.nd.NDArray],
    auxs: Mapping[str, mx.nd.NDArray],
) -> None:
    """Write a checkpoint completely or not at all.

    Where the same graph is already there, one step replaces the parameters alone. A new graph never stands next to the
    parameters of an old one: those are removed first.

    Parameters
    ----------
    prefix, epoch
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.
    symbol
        The plain embedding graph.
    args, auxs
        Parameters and running statistics; those that the graph does not need are left out.

    Raises
    ------
    CheckpointError
        Where a parameter is missing, misshapen, NaN or infinite; the files then stay unchanged.
    """
    symbol_file, params_file = _paths(prefix, epoch)  # not `checkpoint_files`: a bundled network is never written
    args, auxs = fitting_parameters(symbol, args, auxs, "the network")
    for name, value in {**args, **auxs}.items():
        if not np.isfinite(value.asnumpy()).all():
            raise CheckpointError(f"{name} holds NaN or infinity: {params_file} was not written; try a smaller lr")
    arrays = {f"arg:{name}": value for name, value in args.items()}
    arrays.update({f"aux:{name}": value for name, value in auxs.items()})
    graph = symbol.tojson().encode()
    with atomic_path(params_file) as temporary:
        with open(temporary, "wb") as file:
            write_params(file, arrays)
        if not (symbol_file.is_file() and read_bytes(symbol_file) == graph):
            with atomic_path(symbol_file) as other:
                other.write_bytes(graph)
                params_file.unlink(missing_ok=True)


def checkpoint_files(prefix: PathLike, epoch: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the paths of graph and parameters to read. The prefix may be the name of a bundled network."""
    bundled = find_model(prefix)
    return _paths(prefix if bundled is None else bundled.prefix, epoch)


def existing_files(prefix: PathLike, epoch: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Return the paths of graph and parameters; CheckpointError where one does not exist, naming the epochs that do."""
    files = checkpoint_files(prefix, epoch)
    for path in files:
        if not path.is_file():
            there = epochs_of(str(files[0])[: -len("-symbol.json")])
            named = f"; there are epochs {', '.join(map(str, there[-8:]))}" if there else _remedy(prefix)
            raise CheckpointError(f"no checkpoint file {path}: give PREFIX,EPOCH as in PREFIX-0000.params{named}")
    return files


def _remedy(prefix: PathLike) -> str:
    """Return the end of a message that says what was likely meant; empty where that is not known."""
    path = pathlib.Path(prefix)
    if path.suffix.lower() in _PYTORCH:
        return f"; 'vargfacenet convert {prefix} OUT --as NETWORK' makes a checkpoint from weights of PyTorch"
    if path.is_dir():
        inside = sorted({str(one)[: -len("-symbol.json")] for one in path.glob("*-symbol.json")})
        return f"; {prefix} is a folder, with {', '.join(inside) or 'no checkpoint in it'}"
    near = difflib.get_close_matches(str(prefix), [model.name for model in list_models()], n=1)
    return f"; did you mean {near[0]}, which comes with the package?" if near else what_file_it_is(prefix)


_PYTORCH = (".pt", ".pth", ".ckpt")  # suffixes of weights


def _paths(prefix: PathLike, epoch: int) -> tuple[pathlib.Path, pathlib.Path]:
    return pathlib.Path(f"{prefix}-symbol.json"), pathlib.Path(f"{prefix}-{epoch:04d}.params")


def split_epoch(text: str, epoch: int = 0) -> tuple[str, int]:
    """Return prefix and epoch of a checkpoint's name: PREFIX, PREFIX,EPOCH, or one of its two files.

    `epoch` is the one of a name without an epoch.
    """
    file = re.fullmatch(r"(?P<prefix>.+)-(?:symbol\.json|(?P<epoch>\d{4})\.params)", text)
    if file:
        return file["prefix"], epoch if file["epoch"] is None else int(file["epoch"])
    prefix, comma, number = text.rpartition(",")
    if comma and prefix and number.isdecimal() and len(number) <= 4:
        return prefix, int(number)
    return text, epoch


def epochs_of(prefix: PathLike) -> list[int]:
    """Return the epochs whose parameters exist, ascending."""
    path = pathlib.Path(prefix)
    names = (file.name for file in path.parent.glob(f"{glob.escape(path.name)}-[0-9][0-9][0-9][0-9].params"))
    return sorted(int(name[-11:-7]) for name in names)


def _without_casts(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Return the graph in float32 throughout, without the casts to and from half precision that training inserted."""
    graph = json.loads(symbol.tojson())
    nodes = graph["nodes"]
    stands_for: dict[int, list[int]] = {}  # the input of each cast, by its number
    if not any(node["op"] in _CASTS for node in nodes):
        return symbol
    for index, node in enumerate(nodes):
        node["inputs"] = [stands_for.get(source, entry) for entry in node["inputs"] for source in entry[:1]]
        if node["op"] in _CASTS:
            stands_for[index] = node["inputs"][0]
        elif node["op"] == "null":
            node.get("attrs", {}).pop("__dtype__", None)
    # The output keeps the name by which loaders find it, even where a cast had that name.
    graph["heads"] = [stands_for.get(source, [source, *rest]) for source, *rest in graph["heads"]]
    for (before, *_), (after, *_) in zip(json.loads(symbol.tojson())["heads"], graph["heads"]):
        nodes[after]["name"] = nodes[before]["name"]
    return mx.sym.load_json(json.dumps(graph))
