"""The time that a runtime takes to embed an image."""

import importlib.util
import pathlib
import statistics
import time
from typing import Union

import numpy as np

from vargfacenet.deploy.probe import probe_images
from vargfacenet.deploy.runtime import RUNTIMES, OnnxEmbedder

BATCHES = (1, 32)
ROUNDS, LEAST_SECONDS = 5, 0.1


def milliseconds(path: Union[str, pathlib.Path]) -> dict[str, tuple[float, float]]:
    """Return milliseconds per image of an ONNX file, one at a time and 32 at a time, by installed runtime.

    They are medians of rounds in which the runtimes take turns.
    """
    embedders = {name: OnnxEmbedder(path, runtime=name) for name in RUNTIMES if importlib.util.find_spec(name)}
    images = probe_images(max(BATCHES))
    times: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in embedders for batch in BATCHES}
    for _ in range(ROUNDS):
        for (name, batch), found in times.items():
            found.append(_seconds(embedders[name], images[:batch]) / batch * 1e3)
    one, many = BATCHES
    return {name: (statistics.median(times[name, one]), statistics.median(times[name, many])) for name in embedders}


def _seconds(embedder: OnnxEmbedder, images: np.ndarray) -> float:
    """Return seconds per call, over calls that fill `LEAST_SECONDS`, after one call that is not measured."""
    embedder.embed_batch(images)
    begin, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - begin < LEAST_SECONDS:
        embedder.embed_batch(images)
        calls += 1
    return (time.perf_counter() - begin) / calls
