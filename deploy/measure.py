"""How long embedding an image takes."""

import importlib.util
import statistics
import time

from vargfacenet.deploy.probe import probe_images
from vargfacenet.deploy.runtime import RUNTIMES, OnnxEmbedder

BATCHES = (1, 32)
ROUNDS, LEAST_SECONDS = 5, 0.1


def milliseconds(path):
    """Milliseconds an image, one at a time and 32, by the name of each runtime that is installed.

    Medians of rounds in which the runtimes take turns.

    Parameters
    ----------
    path : path
        An ONNX file.

    Returns
    -------
    dict of str to tuple of 2 float
    """
    embedders = {name: OnnxEmbedder(path, runtime=name) for name in RUNTIMES if importlib.util.find_spec(name)}
    images = probe_images(max(BATCHES))
    times = {(name, batch): [] for name in embedders for batch in BATCHES}
    for _ in range(ROUNDS):
        for (name, batch), found in times.items():
            found.append(_seconds(embedders[name], images[:batch]) / batch * 1e3)
    return {name: tuple(statistics.median(times[name, batch]) for batch in BATCHES) for name in embedders}


def _seconds(embedder, images):
    """Seconds a call, of as many calls as fill `LEAST_SECONDS`, after one that does not count."""
    embedder.embed_batch(images)
    begin, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - begin < LEAST_SECONDS:
        embedder.embed_batch(images)
        calls += 1
    return (time.perf_counter() - begin) / calls
