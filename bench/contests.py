"""Contests between this package and its rivals, one function each.

Every contender runs on all usable cores unless its name says otherwise.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np

import vargfacenet
from vargfacenet import IMAGE_SHAPE
from vargfacenet.bench.parameters import random_parameters
from vargfacenet.bench.rounds import Contender
from vargfacenet.deploy.export import VERSIONS, export_onnx
from vargfacenet.deploy.probe import probe_images
from vargfacenet.deploy.quantise import quantise, ranges
from vargfacenet.deploy.translate import translate
from vargfacenet.environment import usable_cores
from vargfacenet.eval.features import write_features
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.formats.files import atomic_path
from vargfacenet.operators.backends import VARIABLE
from vargfacenet.symbols import get_symbol
from vargfacenet.torch import has_torch

OURS = "ours"
_MODULE = "MXNet's Module"

_Options = Mapping[str, Any]  # of a network


class Contest(NamedTuple):
    """Contenders that do the same work.

    ``unit`` is a rate such as ``images/s``, or ``ms`` for the time of one item. The others are compared with the first
    of ``contenders``. ``baselines`` are names of contenders that are one rival at several settings; all are compared
    with the fastest of these too.
    """

    title: str
    unit: str
    contenders: Sequence[Contender]
    baselines: tuple[str, ...] = ()


def training(
    network: str,
    options: _Options,
    *,
    batch_size: int,
    updates: int,
    backends: Sequence[str],
    pytorch: Optional[pathlib.Path] = None,
) -> Contest:
    """Whole updates on random images, by backend, and by PyTorch where a Python that has it is given."""
    work = _work(network, options, batch_size, updates=updates)
    contenders = [Contender(name, "train.py", work, {VARIABLE: backend}) for name, backend in _named(backends)]
    if pytorch:
        contenders += _pytorch(network, options, batch_size, updates, pytorch)
    if has_torch():
        contenders += _torch_engine(work)
    return Contest(f"training, {network}, batch {batch_size}", "images/s", contenders)


def waiting(
    network: str, options: _Options, *, batch_size: int, updates: int, data: Union[str, pathlib.Path]
) -> Contest:
    """Training on the images of a set, which are decoded at the same time."""
    work = _work(network, options, batch_size, updates=updates, data=str(data))
    return Contest(
        f"training with its data, {network}, batch {batch_size}", "images/s", [Contender(OURS, "train.py", work)]
    )


def scaling(network: str, options: _Options, *, batch_size: int, updates: int) -> Iterator[Contest]:
    """Training, and embeddings of batches and of single images, by one thread, two, four and so on up to all cores."""
    cores = usable_cores()
    counts = sorted({cores, *(2**power for power in range(cores.bit_length()))})
    train = _work(network, options, batch_size, updates=updates)
    works = [(f"training, {network}, batch {batch_size}", "images/s", "train.py", train)]
    for size, batches in ((batch_size, 4), (1, 20)):
        work = _work(network, options, size, batches=batches)
        works.append((f"embedding, {network}, batch {size}", "ms", "embed.py", work))
    for title, unit, file, work in works:
        contenders = [
            Contender(f"{count} thread{'s' if count > 1 else ''}", file, work, {"OMP_NUM_THREADS": str(count)})
            for count in reversed(counts)
        ]
        yield Contest(f"{title}, by number of threads", unit, contenders)


def profile(network: str, options: _Options, *, batch_size: int, updates: int, backends: Sequence[str]) -> Contest:
    """The time of an update, operator by operator."""
    work = _work(network, options, batch_size, updates=updates)
    alone = {"MXNET_EXEC_BULK_EXEC_TRAIN": "0"}
    contenders = [
        Contender(name, "profile_training.py", work, {VARIABLE: backend, **alone}) for name, backend in _named(backends)
    ]
    return Contest(f"an update by operator, {network}, batch {batch_size}", "images/s", contenders)


def embedding(network: str, options: _Options, *, batch_size: int, batches: int, backends: Sequence[str]) -> Contest:
    """Embeddings of batches, by backend, and by MXNet's Module on the published graph with one thread and with all."""
    work = _work(network, options, batch_size, batches=batches)
    backends = [backend for backend in backends if backend != "stock"]
    contenders = [Contender(name, "embed.py", work, {VARIABLE: backend}) for name, backend in _named(backends)]
    for threads in sorted({1, usable_cores()}, reverse=True):
        name = f"{_MODULE}, {threads} thread{'s' if threads > 1 else ''}"
        contenders.append(Contender(name, "embed.py", {**work, "module": True}, {"OMP_NUM_THREADS": str(threads)}))
    return Contest(f"embedding, {network}, batch {batch_size}", "ms", contenders)


def deployed(
    network: str,
    options: _Options,
    *,
    folder: pathlib.Path,
    batches: int,
    openvino: Optional[pathlib.Path] = None,
) -> Contest:
    """The embedding of one image: ONNX files in two forms in onnxruntime, in OpenVINO where a Python that has it is
    given, and MXNet itself.

    MXNet's Module has two settings for one image: one thread, or all threads on a pair whose second image is padding
    (one image alone fails with several threads, "IsMKLDNNData"). All are compared with the faster one. A pair of two
    real images takes part too, which answers another question.
    """
    checkpoint = folder / "random"
    symbol = get_symbol(network, **options)
    save_checkpoint(checkpoint, 0, symbol, *random_parameters(symbol))
    files = {target: str(folder / f"{target}.onnx") for target in ("plain", "onnxruntime")}
    for target, path in files.items():
        export_onnx(checkpoint, 0, path, target=target)
    work = {"threads": usable_cores(), "batch_size": 1, "batches": batches}
    contenders = [
        Contender(f"onnxruntime, {form}", "embed_onnx.py", {**work, "path": files[target], "runtime": "onnxruntime"})
        for form, target in (("rewritten", "onnxruntime"), ("plain", "plain"))
    ]
    if openvino:
        files["int8"] = str(folder / "int8.onnx")
        _write_int8(checkpoint, files["int8"])
        contenders += [
            Contender(
                f"OpenVINO, {name}",
                "embed_onnx.py",
                {**work, "path": files[form], "runtime": "openvino", "precision": precision},
                python=str(openvino),
            )
            for name, form, precision in (
                ("float32", "plain", "f32"),
                ("bf16", "plain", "bf16"),
                ("int8", "int8", "f32"),
            )
        ]
    inside = _work(network, options, 1, batches=batches)
    pair = {**inside, "batch_size": 2, "module": True}
    alone, all_cores = {"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": str(usable_cores())}
    threads = f"{usable_cores()} threads"
    modules = [
        Contender(f"{_MODULE}, 1 thread", "embed.py", {**inside, "module": True}, alone),
        Contender(f"{_MODULE}, {threads}, padded to a pair", "embed.py", {**pair, "padding": 1}, all_cores),
    ]
    contenders += [Contender("MXNet, native operators", "embed.py", inside), *modules]
    contenders.append(Contender(f"{_MODULE}, {threads}, each of a pair", "embed.py", pair, all_cores))
    names = tuple(one.name for one in modules)
    return Contest(f"out of MXNet, {network}, one image", "ms", contenders, names)


def _write_int8(checkpoint: pathlib.Path, path: str) -> None:
    """Write a file with all layers on bytes and ranges from random images: it costs the time of a calibrated file."""
    graph = translate(load_checkpoint(checkpoint, 0))
    layers = list(graph.layers())
    quantised = quantise(graph, layers, ranges(graph, layers, probe_images(16), 1e-4))
    opset, ir_version = VERSIONS["int8"]
    model = quantised.to_onnx(opset=opset, ir_version=ir_version)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def feeding(data: pathlib.Path, records: pathlib.Path, *, batch_size: int, batches: int) -> Contest:
    """Batches ready for the device, from the folder of a training set, and from a record file of the same images."""
    work = {"batch_size": batch_size, "batches": batches}
    theirs = {**work, "records": str(records), "threads": usable_cores()}
    slow = {
        **work,
        "batches": max(1, batches // 8),
        "data": str(data),
    }  # shorter turns for a contender that is much slower
    contenders = [
        Contender(OURS, "feed.py", {**work, "data": str(data)}),
        Contender("ImageRecordIter, shuffled", "feed_imagerecorditer.py", theirs),
        Contender("Python iterator like the lineage's", "feed_python.py", slow),
    ]
    return Contest(f"batches of decoded images, batch {batch_size}", "images/s", contenders)


def verifying(*, pairs: int, thresholds: int) -> Contest:
    """The ten-fold protocol on random distances."""
    work = {"pairs": pairs, "thresholds": thresholds}
    contenders = [
        Contender(OURS, "protocol.py", work),
        Contender("loop over thresholds", "protocol.py", {**work, "loop": True}),
    ]
    return Contest(f"ten folds of {pairs} pairs, {thresholds} thresholds", "ms", contenders)


def pairing(
    *, rows: int, others: int, folder: pathlib.Path, size: int = 512, identities: int = 4000, far: float = 1e-8
) -> Contest:
    """All pairs across two lists of random features, next to the matrix product alone, which is the lower limit."""
    random = np.random.RandomState(0)
    centres = random.normal(size=(identities, size)).astype(np.float32)
    files = {}
    for name, count in (("features", rows), ("others", others)):

        def blocks(count: int = count) -> Iterator[np.ndarray]:
            for begin in range(0, count, 4096):
                labels = np.arange(begin, min(begin + 4096, count)) % identities
                yield centres[labels] + 2.5 * random.standard_normal((len(labels), size)).astype(np.float32)

        files[name] = str(folder / f"{name}-{count}.bin")
        write_features(files[name], blocks(), count)
    work = {**files, "identities": identities, "far": far}
    contenders = [
        Contender(OURS, "all_pairs.py", work),
        Contender("matrix product alone", "all_pairs.py", {**work, "product": True}),
    ]
    return Contest(f"all pairs of {rows:,} x {others:,}, {size} numbers, FAR {far:g}", "pairs/s", contenders)


def pooling(*, images: int, templates: int, gallery: int, pairs: int, embedding_size: int = 512) -> Contest:
    """The template protocols, 1:1 and 1:N, on random embeddings."""
    sizes = {"images": images, "templates": templates, "gallery": gallery, "pairs": pairs}
    work = {**sizes, "embedding_size": embedding_size}
    contenders = [
        Contender(OURS, "templates.py", work),
        Contender("template by template, slices of pairs", "templates.py", {**work, "loop": True}),
    ]
    return Contest(f"templates: {images:,} images in {templates:,}, {pairs:,} pairs", "ms", contenders)


def starting() -> Contest:
    """The start of Python, up to the help text or the end of an import."""
    contenders = [
        Contender("vargfacenet --help", "start.py", {"words": ["-m", "vargfacenet", "--help"]}),
        Contender("import vargfacenet", "start.py", {"words": ["-c", "import vargfacenet"]}),
        Contender("import vargfacenet, mxnet", "start.py", {"words": ["-c", "import vargfacenet, mxnet"]}),
    ]
    return Contest("start", "ms", contenders)


def _work(network: str, options: _Options, batch_size: int, **more: Any) -> dict[str, Any]:
    return {"network": network, "network_options": options, "batch_size": batch_size, **more}


def _named(backends: Sequence[str]) -> list[tuple[str, str]]:
    return [("stock MXNet operators" if backend == "stock" else f"{OURS}, {backend}", backend) for backend in backends]


def _pytorch(network: str, options: _Options, batch_size: int, updates: int, python: pathlib.Path) -> list[Contender]:
    symbol = get_symbol(network, **options)
    shapes, _, statistics = symbol.infer_shape(data=(2, *IMAGE_SHAPE))
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    work = {
        "graph": symbol.tojson(),
        "shapes": dict(zip(names, shapes + statistics)),
        "package": str(pathlib.Path(vargfacenet.__file__).parent.parent),
        "batch_size": batch_size,
        "updates": updates,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    return [
        Contender(f"PyTorch, {name}", "train_pytorch.py", {**work, "channels_last": last}, {}, str(python))
        for name, last in (("NCHW", False), ("channels last", True))
    ]


def _torch_engine(work: Mapping[str, Any]) -> list[Contender]:
    """Return the PyTorch engine in this environment, in the layouts and precisions that a CPU has."""
    threads = {"threads": int(os.environ["OMP_NUM_THREADS"])}
    forms: tuple[tuple[str, dict[str, Any]], ...] = (
        ("NCHW", {}),
        ("channels last", {"channels_last": True}),
        ("channels last, bfloat16", {"channels_last": True, "precision": "bfloat16"}),
    )
    return [Contender(f"engine torch, {name}", "train_torch.py", {**work, **threads, **form}) for name, form in forms]
