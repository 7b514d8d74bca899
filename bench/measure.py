"""Seconds of an update and peak memory of training, each measured in a process of its own.

``python -m vargfacenet.bench.measure`` is that process.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.environment import prepare_environment
from vargfacenet.errors import TrainingError
from vargfacenet.operators import choose_backend
from vargfacenet.symbols.heads import margin_softmax
from vargfacenet.symbols.objective import objective, open_objective
from vargfacenet.train import generation  # noqa: F401 - its imports must not be counted
from vargfacenet.train.build import make_trainer
from vargfacenet.train.classifier import Margin, Sampling, ShardedClassifier, ShardedTrainer
from vargfacenet.train.config import resolve
from vargfacenet.train.graph import embedding_size_of
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.trainer import Trainer


class ClassifierTask(NamedTuple):
    """A classifier to measure, with random labels.

    ``head`` is ``dense`` or ``sharded``, ``sample_rate`` the setting of that name. ``updates`` are timed, after one
    that is not.
    """

    head: str
    identities: int
    sample_rate: float = 1.0
    embedding_size: int = 512
    batch_size: int = 64
    updates: int = 5


def measure_classifier(task: ClassifierTask) -> dict[str, Any]:
    """Measure updates of a classifier on a single fully connected layer, by the margin loss, on one CPU device.

    The result has the fields of the task, ``seconds`` of an update (median), ``slowest``, ``quickest``, and ``bytes``,
    the rise of the process's resident memory to its peak. TrainingError where the process fails.
    """
    return _in_process({"kind": "classifier", **task._asdict()})


def measure_training(
    recipe: str, settings: Mapping[str, Any], identities: int, *, devices: int = 1, updates: int = 3
) -> dict[str, Any]:
    """Measure updates of a recipe on random images and CPU devices; the result is as `measure_classifier`'s."""
    task = {"kind": "training", "recipe": recipe, "settings": settings, "identities": identities, "devices": devices}
    return _in_process({**task, "updates": updates})


def _in_process(task: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "vargfacenet.bench.measure", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"measuring {task} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(task: Mapping[str, Any]) -> dict[str, Any]:
    choose_backend()
    mx.nd.dot(mx.nd.ones((64, 64)), mx.nd.ones((64, 64))).asnumpy()  # libraries are loaded by their first use
    before = _memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
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


def _classifier(task: Mapping[str, Any]) -> tuple[Any, mx.io.DataBatch]:
    size, count, identities = task["embedding_size"], task["batch_size"], task["identities"]
    random = np.random.RandomState(0)
    batch = mx.io.DataBatch(
        [mx.nd.array(random.normal(size=(count, size)))], [mx.nd.array(random.randint(0, identities, count))]
    )
    embedding = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=size, name="embedding_layer")
    sgd = SGD(lambda update: 0.01)
    inputs: dict[str, tuple[int, ...]] = {"data": (count, size)}
    if task["head"] == "dense":
        label = mx.sym.var("softmax_label")
        head = margin_softmax(embedding, label, num_identities=identities, embedding_size=size)
        return Trainer(objective(identity=head), data=inputs, labels={"softmax_label": (count,)}, sgd=sgd), batch
    classifier = ShardedClassifier(
        num_identities=identities,
        embedding_size=size,
        sgd=sgd,
        margin=Margin(1.0, 0.5, 0.0, 64.0),
        sampling=Sampling(task["sample_rate"]),
        rescale=1 / count,
    )
    classifier.initialise(0)
    return ShardedTrainer(Trainer(open_objective(embedding), data=inputs, labels={}, sgd=sgd), classifier), batch


def _training(task: Mapping[str, Any]) -> tuple[Any, mx.io.DataBatch]:
    config = resolve(task["recipe"], task["settings"])
    embedding, random, count = config.build_symbol(), np.random.RandomState(0), config.batch_size
    data = [mx.nd.random.uniform(0, 255, (count, *IMAGE_SHAPE))]
    if config.distils:
        data.append(mx.nd.random.normal(shape=(count, embedding_size_of(embedding))))
    labels = [mx.nd.array(random.randint(0, task["identities"], count))]
    runtime = Runtime([mx.cpu(number) for number in range(task["devices"])])
    return make_trainer(config, embedding, task["identities"], runtime=runtime), mx.io.DataBatch(data, labels)


_SETUPS = {"classifier": _classifier, "training": _training}


def _memory(field: str) -> int:
    """Return the bytes of a field of the process's memory, such as VmRSS or its peak VmHWM."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise TrainingError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    prepare_environment()
    sys.stdout.write(json.dumps(_measure(json.loads(sys.argv[1]))) + "\n")
