"""The checkpoint contract of the lineage: ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.

Loaders elsewhere call ``mx.model.load_checkpoint(prefix, epoch)``, take ``fc1_output`` and bind the one input ``data``.
What is saved here is therefore the plain published graph, embedding only; classifier weights stay out.
"""

import collections
import contextlib
import glob
import json
import pathlib

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import CheckpointError
from vargfacenet.formats.files import atomic_path, read_bytes
from vargfacenet.formats.graphs import first_line, read_graph
from vargfacenet.formats.params import load_params, write_params
from vargfacenet.models import find_model

_CASTS = ("Cast", "cast", "amp_cast")

Checkpoint = collections.namedtuple("Checkpoint", "symbol args auxs")
Checkpoint.__doc__ = "An embedding graph with its parameters and running statistics, dicts of name to float32 NDArray."


def load_checkpoint(prefix, epoch, *, output=None):
    """Reads a checkpoint of this project or of the InsightFace lineage.

    Parameters
    ----------
    prefix : str or path
        As in ``PREFIX-symbol.json``.
    epoch : int
        As in ``PREFIX-0000.params``, 0 .. 9999.
    output : str, optional
        The node whose output is the embedding, see `vargfacenet.formats.graphs.read_graph`. What follows it, such as a
        classifier, is left out.

    Returns
    -------
    Checkpoint
        Exactly the parameters that the graph needs; others in the file are dropped.

    Raises
    ------
    CheckpointError
        Where a file is missing or unreadable, the graph has no such output, or a parameter is missing or misshapen.
    """
    symbol_file, params_file = checkpoint_files(prefix, epoch)
    for path in (symbol_file, params_file):
        if not path.is_file():
            there = epochs_of(str(symbol_file)[: -len("-symbol.json")])
            named = f"; there are epochs {', '.join(map(str, there[-8:]))}" if there else ""
            raise CheckpointError(f"no checkpoint file {path}: give PREFIX and --epoch as in PREFIX-0000.params{named}")
    symbol = _without_casts(read_graph(symbol_file, output))
    saved = load_params(params_file)
    args, auxs = (_named(saved, kind) for kind in ("arg:", "aux:"))
    args.update(_wide_slopes(symbol, args))
    return Checkpoint(symbol, *fitting_parameters(symbol, args, auxs, str(params_file)))


def _named(saved, kind):
    """Arrays of a kind, and those whose names state none, as `Block.collect_params().save` writes them."""
    bare = {name: value for name, value in saved.items() if not name.startswith(("arg:", "aux:"))}
    return {**bare, **{name[len(kind) :]: value for name, value in saved.items() if name.startswith(kind)}}


def _wide_slopes(symbol, args):
    """PReLU's slopes that are saved as one number where the graph wants one for each channel."""
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


def fitting_parameters(symbol, args, auxs, source):
    """The parameters that `symbol` needs, as float32; CheckpointError names those missing or misshapen in `source`."""
    try:
        arg_shapes, out_shapes, aux_shapes = symbol.infer_shape(data=(1, *IMAGE_SHAPE))
    except (mx.base.MXNetError, ValueError) as error:
        raise CheckpointError(f"the graph of {source} does not fit faces of 112x112: {first_line(error)}") from error
    if out_shapes is None or len(out_shapes[0]) != 2:
        raise CheckpointError(f"the graph of {source} gives no embedding of faces of 112x112, but shapes {out_shapes}")
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
    return tuple({name: values[name].astype("float32") for name in shapes} for shapes, values in needed)


def save_checkpoint(prefix, epoch, symbol, args, auxs):
    """Writes a checkpoint, whole or not at all.

    Where the graph is the one that is there already, only the parameters are replaced, in one step. Another graph's are
    never beside the parameters of the one before: those are removed first.

    Parameters
    ----------
    prefix, epoch : str or path, int
        As in ``PREFIX-symbol.json`` and ``PREFIX-0000.params``.
    symbol : mx.sym.Symbol
        The plain embedding graph.
    args, auxs : dict of str to NDArray
        Parameters and running statistics; those the graph does not need are left out.

    Raises
    ------
    CheckpointError
        Where a parameter is missing, misshapen, NaN or infinite; the files are then as they were.
    """
    symbol_file, params_file = _paths(prefix, epoch)  # never those of a bundled network
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


def checkpoint_files(prefix, epoch):
    """The two paths of a checkpoint to read: symbol and parameters. The prefix may be the name of a bundled network."""
    bundled = find_model(prefix)
    return _paths(prefix if bundled is None else bundled.prefix, epoch)


def _paths(prefix, epoch):
    return pathlib.Path(f"{prefix}-symbol.json"), pathlib.Path(f"{prefix}-{epoch:04d}.params")


def epochs_of(prefix) -> list:
    """The epochs whose parameters are there, ascending."""
    path = pathlib.Path(prefix)
    names = (file.name for file in path.parent.glob(f"{glob.escape(path.name)}-[0-9][0-9][0-9][0-9].params"))
    return sorted(int(name[-11:-7]) for name in names)


def _without_casts(symbol):
    """The graph in float32 throughout: casts to half precision and back, which training put in, are left out."""
    graph = json.loads(symbol.tojson())
    nodes, stands_for = graph["nodes"], {}
    if not any(node["op"] in _CASTS for node in nodes):
        return symbol
    for index, node in enumerate(nodes):
        node["inputs"] = [stands_for.get(source, entry) for entry in node["inputs"] for source in entry[:1]]
        if node["op"] in _CASTS:
            stands_for[index] = node["inputs"][0]
        elif node["op"] == "null":
            node.get("attrs", {}).pop("__dtype__", None)
    # The output keeps its name, by which loaders find it, also where it was a cast's.
    graph["heads"] = [stands_for.get(source, [source, *rest]) for source, *rest in graph["heads"]]
    for (before, *_), (after, *_) in zip(json.loads(symbol.tojson())["heads"], graph["heads"]):
        nodes[after]["name"] = nodes[before]["name"]
    return mx.sym.load_json(json.dumps(graph))
