"""What training takes, measured: seconds of an update and peak memory, each in a process of its own.

``python -m vargfacenet.bench.measure`` is that process.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.environment import prepare_environment
from vargfacenet.errors import TrainingError
from vargfacenet.operators import choose_backend
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train import generation  # noqa: F401 - what it imports is not to be counted
from vargfacenet.train.build import make_trainer
from vargfacenet.train.classifier import Margin, Sampling, ShardedClassifier, ShardedTrainer
from vargfacenet.train.config import resolve
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer


def measure_classifier(head, identities, *, sample_rate=1.0, embedding_size=512, batch_size=64, updates=5):
    """An update of a classifier under a single fully connected layer, by the margin loss, on one CPU device.

    Parameters
    ----------
    head : str
        ``dense`` or ``sharded``.
    identities, embedding_size, batch_size : int
        Of the classifier and the batch; labels are random.
    sample_rate : float
        As the setting of that name.
    updates : int
        Updates that are timed, after one that is not.

    Returns
    -------
    dict
        What was asked for, ``seconds`` of an update (median), ``slowest``, ``quickest``, and ``bytes``, the peak of the
        process's resident memory over what it had before.

    Raises
    ------
    TrainingError
        Where the process fails.
    """
    names = ("head", "identities", "sample_rate", "embedding_size", "batch_size", "updates")
    values = (head, identities, sample_rate, embedding_size, batch_size, updates)
    return _in_process({"kind": "classifier", **dict(zip(names, values))})


def measure_training(recipe, settings, identities, *, devices=1, updates=3):
    """Updates of a recipe (str) with settings (dict) on random images and CPU devices; result as `measure_classifier`."""
    task = {"kind": "training", "recipe": recipe, "settings": settings, "identities": identities, "devices": devices}
    return _in_process({**task, "updates": updates})


def _in_process(task):
    command = [sys.executable, "-m", "vargfacenet.bench.measure", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"measuring {task} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(task):
    choose_backend()
    mx.nd.dot(mx.nd.ones((64, 64)), mx.nd.ones((64, 64))).asnumpy()  # libraries are loaded by their first use
    before = _memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begins the peak anew
    trainer, batch = _SETUPS[task["kind"]](task)
    seconds = []
    for _ in range(task["updates"] + 1):
        begin = time.perf_counter()
        trainer.step(batch)
        mx.nd.waitall()
        seconds.append(time.perf_counter() - begin)
    timed = seconds[1:]
    times = {"seconds": statistics.median(timed), "quickest": min(timed), "slowest": max(timed)}
    return {**task, **times, "bytes": _memory("VmHWM") - before}


def _classifier(task):
    size, count, identities = task["embedding_size"], task["batch_size"], task["identities"]
    random = np.random.RandomState(0)
    batch = mx.io.DataBatch(
        [mx.nd.array(random.normal(size=(count, size)))], [mx.nd.array(random.randint(0, identities, count))]
    )
    embedding = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=size, name="embedding_layer")
    sgd = SGD(lambda update: 0.01)
    options = {"data": {"data": (count, size)}, "sgd": sgd}
    if task["head"] == "dense":
        label = mx.sym.var("softmax_label")
        head = margin_softmax(embedding, label, num_identities=identities, embedding_size=size)
        return Trainer(objective(identity=head), labels={"softmax_label": (count,)}, **options), batch
    classifier = ShardedClassifier(
        num_identities=identities,
        embedding_size=size,
        sgd=sgd,
        margin=Margin(1.0, 0.5, 0.0, 64.0),
        sampling=Sampling(task["sample_rate"]),
        rescale=1 / count,
    )
    classifier.initialise(0)
    return ShardedTrainer(Trainer(open_objective(embedding), labels={}, **options), classifier), batch


def _training(task):
    config = resolve(task["recipe"], task["settings"])
    embedding, random, count = config.build_symbol(), np.random.RandomState(0), config.batch_size
    data = [mx.nd.random.uniform(0, 255, (count, *IMAGE_SHAPE))]
    if config.distils:
        data.append(mx.nd.random.normal(shape=(count, embedding_size_of(embedding))))
    labels = [mx.nd.array(random.randint(0, task["identities"], count))]
    runtime = Runtime([mx.cpu(number) for number in range(task["devices"])])
    return make_trainer(config, embedding, task["identities"], runtime=runtime), mx.io.DataBatch(data, labels)


_SETUPS = {"classifier": _classifier, "training": _training}


def _memory(field):
    """Bytes of a field of the process's memory, such as VmRSS or its peak VmHWM (int)."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise TrainingError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    prepare_environment()
    sys.stdout.write(json.dumps(_measure(json.loads(sys.argv[1]))) + "\n")
