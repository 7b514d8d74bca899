"""Who is measured against whom: each function gives one contest.

Every contender runs on all usable cores unless its name says otherwise.
"""

import collections
import os
import pathlib

import numpy as np

import vargfacenet
from vargfacenet import IMAGE_SHAPE
from vargfacenet.bench.parameters import random_parameters
from vargfacenet.bench.rounds import Contender
from vargfacenet.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.deploy.export import VERSIONS, export_onnx
from vargfacenet.deploy.probe import probe_pictures
from vargfacenet.deploy.quantise import LAYERS, quantise, ranges
from vargfacenet.deploy.translate import translate
from vargfacenet.environment import usable_cores
from vargfacenet.eval.features import write_features
from vargfacenet.files import atomic_path
from vargfacenet.operators.tiers import VARIABLE
from vargfacenet.symbols import get_symbol
from vargfacenet.torch import has_torch

Contest = collections.namedtuple("Contest", "title unit contenders baselines", defaults=((),))
Contest.__doc__ = """What is measured, in what unit (a rate such as ``images/s``, or ``ms`` for the time of one), and who takes
part: the first is who the others are compared with. The quickest of `baselines` (names of contenders), where there are
any, is one at its best setting, with which all are compared too.
"""

OURS = "ours"
_MODULE = "MXNet's Module"


def training(network, options, *, batch_size, updates, tiers, pytorch=None):
    """Whole updates on random pictures, by tier of operators and, where its Python is named, by PyTorch."""
    work = _work(network, options, batch_size, updates=updates)
    contenders = [Contender(name, "train.py", work, {VARIABLE: tier}) for name, tier in _named(tiers)]
    if pytorch:
        contenders += _pytorch(network, options, batch_size, updates, pytorch)
    if has_torch():
        contenders += _torch_engine(work)
    return Contest(f"training, {network}, batch {batch_size}", "images/s", contenders)


def waiting(network, options, *, batch_size, updates, data):
    """Training on the pictures of a set, decoded meanwhile."""
    work = _work(network, options, batch_size, updates=updates, data=str(data))
    return Contest(
        f"training with its data, {network}, batch {batch_size}", "images/s", [Contender(OURS, "train.py", work)]
    )


def profile(network, options, *, batch_size, updates, tiers):
    """Where the time of an update goes."""
    work = _work(network, options, batch_size, updates=updates)
    alone = {"MXNET_EXEC_BULK_EXEC_TRAIN": "0"}
    contenders = [
        Contender(name, "profile_training.py", work, {VARIABLE: tier, **alone}) for name, tier in _named(tiers)
    ]
    return Contest(f"an update by operator, {network}, batch {batch_size}", "images/s", contenders)


def embedding(network, options, *, batch_size, batches, tiers):
    """Embeddings of whole batches, by tier, and by MXNet's Module on the published graph at each setting of threads."""
    work = _work(network, options, batch_size, batches=batches)
    tiers = [tier for tier in tiers if tier != "stock"]
    contenders = [Contender(name, "embed.py", work, {VARIABLE: tier}) for name, tier in _named(tiers)]
    for threads in sorted({1, usable_cores()}, reverse=True):
        name = f"{_MODULE}, {threads} thread{'s' if threads > 1 else ''}"
        contenders.append(Contender(name, "embed.py", {**work, "module": True}, {"OMP_NUM_THREADS": str(threads)}))
    return Contest(f"embedding, {network}, batch {batch_size}", "ms", contenders)


def deployed(network, options, *, folder, batches, openvino=None):
    """One picture's embedding, out of MXNet: ONNX files in two forms by onnxruntime, by OpenVINO where its Python is named, and
    what MXNet itself does.

    MXNet's Module has two settings for one picture: one thread, or all of them on a pair of which the other is padding (one
    picture alone fails with several threads, "IsMKLDNNData"). The quicker is what all are compared with. A pair of which both
    are wanted takes part too; it answers another question.
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
    return Contest(f"out of MXNet, {network}, one picture", "ms", contenders, names)


def _write_int8(checkpoint, path):
    """All layers on bytes, with ranges from random pictures: what a file in use computes, if not its numbers."""
    graph = translate(load_checkpoint(checkpoint, 0))
    layers = [node.name for node in graph.nodes if node.op in LAYERS]
    quantised = quantise(graph, layers, ranges(graph, layers, probe_pictures(16), 1e-4))
    opset, ir_version = VERSIONS["int8"]
    model = quantised.to_onnx(opset=opset, ir_version=ir_version)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def feeding(data, records, *, batch_size, batches):
    """Batches ready for the device, from a training set's folder, and from a record file of the same pictures."""
    work = {"batch_size": batch_size, "batches": batches}
    theirs = {**work, "records": str(records), "threads": usable_cores()}
    slow = {**work, "batches": max(1, batches // 8), "data": str(data)}  # shorter turns for who is so much slower
    contenders = [
        Contender(OURS, "feed.py", {**work, "data": str(data)}),
        Contender("ImageRecordIter, shuffled", "feed_imagerecorditer.py", theirs),
        Contender("Python iterator like the lineage's", "feed_python.py", slow),
    ]
    return Contest(f"batches of decoded pictures, batch {batch_size}", "images/s", contenders)


def verifying(*, pairs, thresholds):
    """The ten-fold protocol on random distances."""
    work = {"pairs": pairs, "thresholds": thresholds}
    contenders = [
        Contender(OURS, "protocol.py", work),
        Contender("loop over thresholds", "protocol.py", {**work, "loop": True}),
    ]
    return Contest(f"ten folds of {pairs} pairs, {thresholds} thresholds", "ms", contenders)


def pairing(*, rows, others, folder, size=512, identities=4000, far=1e-8):
    """All pairs across two lists of drawn features, beside the matrix product that cannot be done without."""
    random = np.random.RandomState(0)
    centres = random.normal(size=(identities, size)).astype(np.float32)
    files = {}
    for name, count in (("features", rows), ("others", others)):

        def blocks(count=count):
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


def pooling(*, pictures, templates, gallery, pairs, embedding_size=512):
    """The template protocols, 1:1 and 1:N, on random embeddings."""
    sizes = {"pictures": pictures, "templates": templates, "gallery": gallery, "pairs": pairs}
    work = {**sizes, "embedding_size": embedding_size}
    contenders = [
        Contender(OURS, "templates.py", work),
        Contender("template by template, slices of pairs", "templates.py", {**work, "loop": True}),
    ]
    return Contest(f"templates: {pictures:,} pictures in {templates:,}, {pairs:,} pairs", "ms", contenders)


def starting():
    """From nothing to the first word."""
    contenders = [
        Contender("vargfacenet --help", "start.py", {"words": ["-m", "vargfacenet", "--help"]}),
        Contender("import vargfacenet", "start.py", {"words": ["-c", "import vargfacenet"]}),
        Contender("import vargfacenet, mxnet", "start.py", {"words": ["-c", "import vargfacenet, mxnet"]}),
    ]
    return Contest("start", "ms", contenders)


def _work(network, options, batch_size, **more):
    return {"network": network, "network_options": options, "batch_size": batch_size, **more}


def _named(tiers):
    return [("stock MXNet operators" if tier == "stock" else f"{OURS}, {tier}", tier) for tier in tiers]


def _pytorch(network, options, batch_size, updates, python):
    symbol = get_symbol(network, **options)
    shapes, _, statistics = symbol.infer_shape(data=(2, *IMAGE_SHAPE))
    work = {
        "graph": symbol.tojson(),
        "shapes": dict(zip(symbol.list_arguments() + symbol.list_auxiliary_states(), shapes + statistics)),
        "package": str(pathlib.Path(vargfacenet.__file__).parent.parent),
        "batch_size": batch_size,
        "updates": updates,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    return [
        Contender(f"PyTorch, {name}", "train_pytorch.py", {**work, "channels_last": last}, {}, str(python))
        for name, last in (("NCHW", False), ("channels last", True))
    ]


def _torch_engine(work):
    """The PyTorch engine in this environment, in the layouts and precisions that a CPU has."""
    threads = {"threads": int(os.environ["OMP_NUM_THREADS"])}
    forms = (
        ("NCHW", {}),
        ("channels last", {"channels_last": True}),
        ("channels last, bfloat16", {"channels_last": True, "precision": "bfloat16"}),
    )
    return [Contender(f"engine torch, {name}", "train_torch.py", {**work, **threads, **form}) for name, form in forms]
