"""A checkpoint as an ONNX file that is proved before it has its name."""

import dataclasses
import importlib.util
import json

import numpy as np

from vargfacenet import __version__
from vargfacenet.deploy.precision import PRECISIONS, halve
from vargfacenet.deploy.probe import cosines, probe_images, relative_error
from vargfacenet.deploy.quantise import quantise_measured
from vargfacenet.deploy.recognition import recognise
from vargfacenet.deploy.runtime import OnnxEmbedder, import_package
from vargfacenet.deploy.targets import TARGETS, rewrite_for
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import ExportError, SettingError
from vargfacenet.eval import Embedder, verify_embeddings
from vargfacenet.eval.protocols.roc import threshold_at_far
from vargfacenet.eval.protocols.verification import pair_distances
from vargfacenet.formats.checkpoint import checkpoint_files, load_checkpoint
from vargfacenet.formats.files import atomic_path, fingerprint
from vargfacenet.models import find_model
from vargfacenet.options import unknown

# onnxruntime reads the first since 1.0, of 2019. From version 4 of the format on, initializers need not be inputs.
VERSIONS = {"float32": (11, 6), "fp16": (11, 6), "bf16": (13, 7), "int8": (13, 7)}  # of operators, of the format
TOLERANCE = 1e-4  # of the relative error
LEAST_COSINE = {"fp16": 0.999, "bf16": 0.999, "int8": 0.98}  # to MXNet's embeddings, mean
BATCHES = (1, 5)  # images at a time in the proof
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
    cosine : float
        Mean cosine of embeddings to MXNet's.
    kept : list of str
        Layers that an INT8 file keeps in float32.
    scores : dict of str to dict
        For each verification set the Verification (dict) by ``mxnet`` and by the runtime that scored the file.
    threshold : float or None
        The cosine above which two faces are one person, on the last set.
    far : float or None
        At which false accept rate: `FAR`, or the smallest of 1e-2 and 1e-1 that the set has pairs for; None without any.
    """

    network: object
    bytes: int
    error: float
    cosine: float
    kept: list
    scores: dict
    threshold: float
    far: float


def export_onnx(
    prefix,
    epoch,
    out,
    *,
    target="plain",
    precision="float32",
    calibration=None,
    sets=None,
    mxnet_scores=None,
    progress=None,
):
    """Writes a checkpoint as an ONNX file that runs equal to it; otherwise there is no file.

    Parameters
    ----------
    prefix, epoch : str or path, int
        The checkpoint, of any network of this package or of the lineage.
    out : path
        The file.
    target : str
        The runtime whose form it takes, one of `vargfacenet.deploy.targets.TARGETS`. All run everywhere.
    precision : str
        One of `vargfacenet.deploy.precision.PRECISIONS`: what weights are kept in. With ``fp16`` and ``bf16`` runtimes
        compute in float32 unless told otherwise (OpenVINO is, by `OnnxEmbedder`, for ``bf16``); with ``int8`` they
        multiply bytes.
    calibration : float32 array (n, 3, 112, 112), optional
        Aligned faces, RGB, 0..255, such as `vargfacenet.deploy.samples.sample_images` gives; ``int8`` needs them.
    sets : dict of str to Pairs, optional
        Verification sets to score both on: the checkpoint in MXNet, and the file in OpenVINO, where it is installed, for
        ``bf16`` and ``int8``, in onnxruntime otherwise.
    mxnet_scores : dict of str to dict, optional
        What MXNet scored before, by set (the Verification as a dict), which it then does not do again.
    progress : callable, optional
        Called with the number of images embedded, by one or the other, since the last call.

    Returns
    -------
    Export

    Raises
    ------
    CheckpointError
        As `load_checkpoint`.
    ExportError
        Where an operator has no form in ONNX, or the file's embeddings are not MXNet's.
    SettingError
        For an unknown target or precision, or where ``int8`` has no images or a form that enlarges it.
    SetupError
        Where onnx or onnxruntime is missing.
    """
    check_request(target, precision, calibration)
    for package in ("onnx", "onnxruntime"):
        import_package(package)
    checkpoint = load_checkpoint(prefix, epoch)
    graph, kept = rewrite_for(translate(checkpoint), target), []
    if precision in ("fp16", "bf16"):
        graph = halve(graph, precision)
    elif precision == "int8":
        graph, kept = quantise_measured(graph, calibration)
    network = recognise(checkpoint.symbol)
    facts = metadata(network, prefix, epoch, target=target, precision=precision)
    opset, ir_version = VERSIONS[precision]
    with atomic_path(out) as temporary:
        scores, threshold, far = {}, None, None
        for with_scores in (False, True) if sets else (False,):
            if with_scores:
                scores, threshold, far = _score(checkpoint, temporary, precision, sets, mxnet_scores or {}, progress)
                facts.update(_score_facts(scores, threshold, far, sets))
            model = graph.to_onnx(opset=opset, ir_version=ir_version, metadata=facts)
            temporary.write_bytes(model.SerializeToString())
            # The last ones: the ranges of an INT8 file are from the first.
            images = None if calibration is None else calibration[-8 * BATCHES[-1] :]
            error, cosine = prove(temporary, checkpoint, precision=precision, images=images)
        size = temporary.stat().st_size
    return Export(network, size, error, cosine, kept, scores, threshold, far)


def prove(path, checkpoint, *, precision="float32", images=None):
    """Runs an ONNX file in onnxruntime against MXNet, one image at a time and several.

    MXNet runs the operators of `vargfacenet.operators.runnable`, which are right on the CPU.

    Parameters
    ----------
    path : path
        The file.
    checkpoint : Checkpoint
        What it must be equal to.
    precision : str
        Of the file: in ``float32`` the relative error must be within `TOLERANCE`, in others the mean cosine above
        `LEAST_COSINE`.
    images : float32 array (n, 3, 112, 112), optional
        RGB, 0..255, whole batches of five; `probe_images` by default.

    Returns
    -------
    error, cosine : float
        The largest relative error of an embedding, and the mean cosine.

    Raises
    ------
    ExportError
        Where the file is not equal, or an embedding is not finite.
    """
    onnx = OnnxEmbedder(path)
    images = probe_images(max(BATCHES)) if images is None else images
    error, cosine = 0.0, 1.0
    for batch in BATCHES:
        mxnet = Embedder(*checkpoint, batch_size=batch)
        parts = np.split(images, range(batch, len(images), batch))
        found, expected = (np.concatenate([one.embed_batch(part) for part in parts]) for one in (onnx, mxnet))
        error = max(error, relative_error(found, expected))
        cosine = min(cosine, float(cosines(found, expected).mean()))
    if precision == "float32" and not error <= TOLERANCE:
        raise ExportError(
            f"the file's embeddings differ from MXNet's: relative error {error:.1e}, allowed {TOLERANCE:.0e}; "
            "no file was left"
        )
    if precision != "float32" and not cosine >= LEAST_COSINE[precision]:
        raise ExportError(
            f"the file's embeddings differ from MXNet's: mean cosine {cosine:.4f}, {precision} must reach "
            f"{LEAST_COSINE[precision]}; no file was left"
        )
    return error, cosine


def check_request(target, precision, calibration):
    """SettingError where `export_onnx` would refuse these arguments."""
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "int8" and calibration is None:
        raise SettingError("int8 needs faces to calibrate on: give --calibrate FOLDER, or a .rec file")
    if precision == "int8" and target not in ("plain", "openvino"):
        raise SettingError(
            f"int8 in the form for {target} would be larger and no quicker: give --target plain or openvino"
        )


def metadata(network, prefix, epoch, **more):
    """What a file says of itself (dict of str to str)."""
    bundled = find_model(prefix)
    inherited = {} if bundled is None else {**bundled.metadata(), "license": bundled.summary}
    return {
        **inherited,
        "made_by": f"vargfacenet {__version__}",
        "network": network.network if network else "other",
        "network_options": json.dumps(network.options if network else {}),
        "input": INPUT_RANGE,
        "output": "embedding, not normalised",
        "checkpoint": fingerprint(checkpoint_files(prefix, epoch)),
        **more,
    }


def _score(checkpoint, path, precision, sets, mxnet_scores, progress):
    # What fewer bits cost shows only where they are computed in: onnxruntime has no bfloat16 on a CPU.
    runtime = "openvino" if precision in ("bf16", "int8") and importlib.util.find_spec("openvino") else "onnxruntime"
    mxnet = None if set(sets) <= set(mxnet_scores) else Embedder(*checkpoint)
    onnx = OnnxEmbedder(path, runtime=runtime)
    scores, threshold, far = {}, None, None
    for name, pairs in sets.items():
        known = mxnet_scores.get(name)
        scores[name] = {"mxnet": known or _verified(mxnet.embed(pairs.images, progress=progress), pairs)}
        plain, mirrored = onnx.embed(pairs.images, progress=progress)
        scores[name][runtime] = _verified((plain, mirrored), pairs)
        cosines_of_pairs = 1 - pair_distances(plain + mirrored) / 2
        thresholds = {far: threshold_at_far(cosines_of_pairs[~pairs.is_same], far) for far in (FAR, 1e-2, 1e-1)}
        far = next((far for far, found in thresholds.items() if found is not None), None)
        threshold = thresholds.get(far)
    return scores, threshold, far


def _verified(embeddings, pairs):
    return verify_embeddings(*embeddings, pairs.is_same).as_dict()


def _score_facts(scores, threshold, far, sets):
    name = list(sets)[-1]
    # Of the file: the first of each is MXNet's.
    facts = {"accuracy": json.dumps({one: list(score.values())[-1]["accuracy"] for one, score in scores.items()})}
    if threshold is not None:
        facts.update(threshold=repr(threshold), threshold_far=f"{far:g}", threshold_set=name)
    return facts
