"""A checkpoint as an ONNX file that is proved before it has its name."""

import dataclasses
import json

import numpy as np

from vargfacenet import __version__
from vargfacenet.checkpoint import checkpoint_files, load_checkpoint
from vargfacenet.deploy.probe import probe_pictures, relative_error
from vargfacenet.deploy.recognition import recognise
from vargfacenet.deploy.runtime import OnnxEmbedder, import_package
from vargfacenet.deploy.targets import rewrite_for
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import ExportError
from vargfacenet.eval import Embedder, verify_embeddings
from vargfacenet.eval.verification import pair_distances, threshold_at_far
from vargfacenet.files import atomic_path, fingerprint

# onnxruntime reads these since 1.0, of 2019. From version 4 of the format on, initializers need not be inputs.
OPSET, IR_VERSION = 11, 6
TOLERANCE = 1e-4  # of the relative error
BATCHES = (1, 5)  # pictures at a time in the proof
FAR = 1e-3

INPUT_RANGE = "RGB, float32 (N, 3, 112, 112), 0..255"


@dataclasses.dataclass(frozen=True)
class Export:
    """What came of an export.

    Attributes
    ----------
    network : Recognised or None
        What the checkpoint is, where it is a network of this package.
    bytes : int
        Size of the file.
    error : float
        Largest relative error of an embedding against MXNet's.
    scores : dict of str to dict
        For each verification set the Verification of ``mxnet`` and of ``onnx``.
    threshold : float or None
        The cosine from which two faces are one person, at a false accept rate of `FAR` on the last set.
    """

    network: object
    bytes: int
    error: float
    scores: dict
    threshold: float


def export_onnx(prefix, epoch, out, *, target="plain", sets=None, progress=None):
    """Writes a checkpoint as an ONNX file that runs equal to it; otherwise there is no file.

    Parameters
    ----------
    prefix, epoch : str or path, int
        The checkpoint, of any network of this package or of the lineage.
    out : path
        The file.
    target : str
        The runtime whose form it takes, one of `vargfacenet.deploy.targets.TARGETS`. All run everywhere.
    sets : dict of str to Pairs, optional
        Verification sets to score both on.
    progress : callable, optional
        Called with the number of pictures verified since the last call; each is embedded by MXNet and by onnxruntime.

    Returns
    -------
    Export

    Raises
    ------
    CheckpointError
        As `load_checkpoint`.
    ExportError
        Where an operator has no form in ONNX, or the file's embeddings are not MXNet's.
    SetupError
        Where onnx or onnxruntime is missing.
    """
    for package in ("onnx", "onnxruntime"):
        import_package(package)
    checkpoint = load_checkpoint(prefix, epoch)
    graph = rewrite_for(translate(checkpoint), target)
    network = recognise(checkpoint.symbol)
    facts = metadata(network, prefix, epoch, target=target, precision="float32")
    with atomic_path(out) as temporary:
        scores, threshold, error = {}, None, None
        for with_scores in (False, True) if sets else (False,):
            if with_scores:
                scores, threshold = _score(checkpoint, temporary, sets, progress)
                facts.update(_score_facts(scores, threshold, sets))
            model = graph.to_onnx(opset=OPSET, ir_version=IR_VERSION, metadata=facts)
            temporary.write_bytes(model.SerializeToString())
            error = prove(temporary, checkpoint)
        size = temporary.stat().st_size
    return Export(network, size, error, scores, threshold)


def prove(path, checkpoint, *, tolerance=TOLERANCE):
    """Runs an ONNX file in onnxruntime against MXNet, one picture at a time and several.

    MXNet runs the operators of `vargfacenet.operators.runnable`, which are right on the CPU.

    Parameters
    ----------
    path : path
        The file.
    checkpoint : Checkpoint
        What it must be equal to.
    tolerance : float
        The relative error allowed.

    Returns
    -------
    float
        The largest relative error of an embedding.

    Raises
    ------
    ExportError
        Where it is larger, or an embedding is not finite.
    """
    onnx = OnnxEmbedder(path)
    worst = 0.0
    for batch in BATCHES:
        pictures = probe_pictures(max(BATCHES))
        mxnet = Embedder(*checkpoint, batch_size=batch)
        parts = np.split(pictures, len(pictures) // batch)
        found, expected = (np.concatenate([one.embed_batch(part) for part in parts]) for one in (onnx, mxnet))
        worst = max(worst, relative_error(found, expected))
    if not worst <= tolerance:
        raise ExportError(
            f"the file's embeddings differ from MXNet's: relative error {worst:.1e}, allowed {tolerance:.0e}; "
            "no file was left"
        )
    return worst


def metadata(network, prefix, epoch, **more):
    """What a file says of itself (dict of str to str)."""
    return {
        "made_by": f"vargfacenet {__version__}",
        "network": network.network if network else "other",
        "network_options": json.dumps(network.options if network else {}),
        "input": INPUT_RANGE,
        "output": "embedding, not normalised",
        "checkpoint": fingerprint(checkpoint_files(prefix, epoch)),
        **more,
    }


def _score(checkpoint, path, sets, progress):
    embedders = {"mxnet": Embedder(*checkpoint), "onnx": OnnxEmbedder(path)}
    scores, threshold = {}, None
    for name, pairs in sets.items():
        scores[name] = {}
        for runtime, embedder in embedders.items():
            plain, mirrored = embedder.embed(pairs.pictures, progress=progress)
            scores[name][runtime] = verify_embeddings(plain, mirrored, pairs.is_same).as_dict()
        distance = threshold_at_far(pair_distances(plain + mirrored), pairs.is_same, FAR)
        threshold = None if distance is None else 1 - distance / 2
    return scores, threshold


def _score_facts(scores, threshold, sets):
    name = list(sets)[-1]
    facts = {"accuracy": json.dumps({one: score["onnx"]["accuracy"] for one, score in scores.items()})}
    if threshold is not None:
        facts.update(threshold=f"{threshold:.6f}", threshold_far=f"{FAR:g}", threshold_set=name)
    return facts
