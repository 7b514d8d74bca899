"""Run as a worker of a test: ``python -m tests.train.worker OUT`` does what workers do together and writes what came of it."""

import json
import pathlib
import signal
import sys

import mxnet as mx
import numpy as np

from vargfacenet.errors import VarGFaceNetError
from vargfacenet.train import cluster as module
from vargfacenet.train.engine import StepResult
from vargfacenet.train.loop import over_all_workers
from vargfacenet.train.stopping import NeverStopping


def message(method, *arguments):
    try:
        method(*arguments)
    except VarGFaceNetError as error:
        return f"{type(error).__name__}: {error}"
    return None


def main(out):
    module._HEAD_START = 0
    cluster = module.join()
    rank = cluster.rank
    large = np.arange(1_500_000, dtype=np.float32).reshape(3, -1) * (rank + 1)
    gradient = mx.nd.full((2, 3), rank + 1)
    cluster.store.init("w", gradient)
    for _ in range(2):  # what was pushed is overwritten by the sum, and pushed again
        cluster.store.pushpull("w", [gradient])
    # Many at once, and none waited for before the next is sent; whole numbers, whose sums are exact.
    sums = [
        (step, size, cluster.all_reduce_async(f"many {size}", mx.nd.full(size, (rank + 1) * (step + 1) + size % 7)))
        for step in range(100)
        for size in (1, 5, 3000, 100_000)
    ]
    wrong = sum(int((array.asnumpy() != 3 * (step + 1) + 2 * (size % 7)).sum()) for step, size, array in sums)
    step = StepResult({"loss": np.array([rank, rank + 1.0]), "accuracy": np.array([float(rank)])}, None, [])
    stopping, signalled = NeverStopping(), NeverStopping()
    signalled.signal = signal.SIGTERM
    arrays = {
        "wrong": np.array([wrong]),
        "sum": cluster.all_reduce(np.array([rank + 1.0, 10.0])),
        "large": cluster.all_reduce(large).sum(axis=1),
        "gather": cluster.all_gather(np.array([[rank, 5.0]], np.float32)),
        "rows": cluster.all_gather_async("rows", mx.nd.array([[0, 1], [2, 3]]) + 10 * rank).asnumpy(),
        "spread": cluster.broadcast(np.array([0.1 + rank, -0.0], np.float32)),
        "gradient": gradient.asnumpy(),
    }
    texts = {
        "total": float(cluster.all_reduce(rank + 0.5)),
        "means": over_all_workers(step, stopping, cluster),
        "signalled": over_all_workers(step, stopping if rank == 0 else signalled, cluster),
        "share": cluster.broadcast_object({"é": [1, None, "x" * 3000]} if rank == 0 else None),
        "same": message(cluster.check_same, {"a": 1, "units": (1, 1)}),
        "other": message(cluster.check_same, {"a": 1, "lr": 0.1 + rank}),
        "alike": message(cluster.check_identical, "the weights", [mx.nd.ones((2, 2))]),
        "unlike": message(cluster.check_identical, "the weights", [mx.nd.ones((2, 2)) * (1 + rank * 1e-7)]),
    }
    shared = out / "turns"
    cluster.in_turn(lambda: shared.write_text((shared.read_text() if shared.exists() else "") + str(rank)))
    np.savez(out / f"{rank}.npz", **arrays)
    (out / f"{rank}.json").write_text(json.dumps(texts))
    cluster.leave()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
