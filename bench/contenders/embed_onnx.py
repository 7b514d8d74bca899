"""Embeddings of a batch by a runtime of ONNX files, in an environment that needs nothing but the runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np


def prepare(
    *, path: str, runtime: str, threads: int, batch_size: int, batches: int, precision: str = "f32"
) -> Callable[[], dict[str, Any]]:
    """Prepare ``onnxruntime`` or ``openvino``; `precision`, ``f32`` or ``bf16``, is the one in which OpenVINO computes.

    Both are set as `vargfacenet.deploy.runtime.OnnxEmbedder` sets them.
    """
    images = np.random.RandomState(0).uniform(0, 255, (batch_size, 3, 112, 112)).astype(np.float32)
    embed = _onnxruntime(path, threads) if runtime == "onnxruntime" else _openvino(path, threads, precision, batch_size)

    def turn() -> dict[str, Any]:
        for _ in range(batches):
            embeddings = embed(images)
        return {"items": batches * batch_size, "norm": float(np.linalg.norm(embeddings[0]))}

    return turn


def _onnxruntime(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"data": images})[0]


def _openvino(path, threads, precision, batch_size):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if batch_size <= 2:
        model.reshape([batch_size, 3, 112, 112])
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(model, "CPU", settings)
    return lambda images: np.array(compiled(images)[0])
