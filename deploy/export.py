"""Export of a checkpoint as an ONNX file, which must embed as MXNet does before it gets its name."""

import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

import numpy as np

from vargfacenet import __version__
from vargfacenet.deploy.graph import ANY_NUMBER, ImageInput
from vargfacenet.deploy.precision import PRECISIONS, halve
from vargfacenet.deploy.probe import cosines, probe_images, relative_error
from vargfacenet.deploy.quantise import quantise_measured
from vargfacenet.deploy.recognition import Recognised, recognise
from vargfacenet.deploy.runtime import OnnxEmbedder, import_package
from vargfacenet.deploy.signature import LAYOUTS, MOST_AT_ONCE
from vargfacenet.deploy.targets import TARGETS, Target, rewrite_for
from vargfacenet.deploy.translate import translate
from vargfacenet.errors import ExportError, SettingError
from vargfacenet.eval import Embedder, verify_embeddings
from vargfacenet.eval.pairs import Pairs
from vargfacenet.eval.plausible import accuracy_doubt, threshold_doubt, warn_of, warn_without_spread
from vargfacenet.eval.protocols.roc import threshold_at_far
from vargfacenet.eval.protocols.verification import pair_distances
from vargfacenet.formats.checkpoint import Checkpoint, checkpoint_files, load_checkpoint
from vargfacenet.formats.files import atomic_path, fingerprint
from vargfacenet.models import find_model
from vargfacenet.options import check_range, unknown

# Versions of ONNX's operators and of its file format. onnxruntime reads the first pair since 1.0, of 2019. From version
# 4 of the format on, initializers need not be inputs.
VERSIONS = {"float32": (11, 6), "fp16": (11, 6), "bf16": (13, 7), "int8": (13, 7)}
TOLERANCE = 1e-4  # of the relative error
LEAST_COSINE = {"fp16": 0.999, "bf16": 0.999, "int8": 0.98}  # mean cosine to MXNet's embeddings
BATCHES = (1, 5)  # images at a time in the comparison
FAR = 1e-3
IMAGE_TYPES = ("float32", "uint8")

Path = Union[str, pathlib.Path]
# A `Verification` as a dict, by set and then by runtime, "mxnet" first.
Scores = dict[str, dict[str, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Scoring:
    """Verification sets on which an export scores both MXNet and the file.

    ``mxnet_scores`` are MXNet's scores by set where they are known already. ``progress`` is called with the number of
    images embedded since the last call.
    """

    sets: Mapping[str, Pairs] = dataclasses.field(default_factory=dict)
    mxnet_scores: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    progress: Optional[Callable[[int], object]] = None


@dataclasses.dataclass(frozen=True)
class Export:
    """The result of an export.

    ``network`` is None where the checkpoint is not a network of this package. ``bytes`` is the size of the file,
    ``error`` the largest relative error of an embedding against MXNet's, ``cosine`` the mean cosine to them.
    ``float_layers`` are the layers that an INT8 file keeps in float32. ``threshold`` is the cosine above which two
    faces are one identity, on the last set, at the false accept rate ``far``: `FAR`, or the smallest of 1e-2 and 1e-1
    that the set has enough pairs for; both are None where it has too few.
    """

    network: Optional[Recognised]
    bytes: int
    error: float
    cosine: float
    float_layers: list[str]
    scores: Scores
    threshold: Optional[float]
    far: Optional[float]


def export_onnx(
    prefix: Path,
    epoch: int,
    out: Path,
    *,
    target: Union[str, Target] = "plain",
    precision: str = "float32",
    calibration: Optional[np.ndarray] = None,
    scoring: Optional[Scoring] = None,
) -> Export:
    """Write a checkpoint as an ONNX file that embeds as MXNet does; otherwise there is no file.

    Parameters
    ----------
    prefix, epoch
        The checkpoint, of any network of this package or of the lineage.
    target
        The runtime whose preferred form the graph takes, one of `vargfacenet.deploy.targets.TARGETS`. All run
        everywhere. A `Target` also states the form in which the file takes images.
    precision
        One of `vargfacenet.deploy.precision.PRECISIONS`: the type of the stored weights. With ``fp16`` and ``bf16``
        runtimes compute in float32 unless told otherwise (`OnnxEmbedder` tells OpenVINO for ``bf16``); with ``int8``
        they multiply bytes.
    calibration
        Aligned faces for ``int8``: float32 (n, 3, 112, 112), RGB, 0..255, as `vargfacenet.deploy.samples.sample_images`
        gives them.
    scoring
        Sets to score both on: the checkpoint in MXNet, and the file in OpenVINO, where it is installed, for ``bf16``
        and ``int8``, in onnxruntime otherwise.

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
    target = Target(target) if isinstance(target, str) else target
    check_request(target, precision, calibration)
    for package in ("onnx", "onnxruntime"):
        import_package(package)
    scoring = scoring or Scoring()
    checkpoint = load_checkpoint(prefix, epoch)
    graph = rewrite_for(translate(checkpoint), target.name)
    float_layers: list[str] = []
    if precision in ("fp16", "bf16"):
        graph = halve(graph, precision)
    elif precision == "int8" and calibration is not None:
        graph, float_layers = quantise_measured(graph, calibration)
    network = recognise(checkpoint.symbol)
    facts = metadata(network, prefix, epoch, image=target.image, target=target.name, precision=precision)
    opset, ir_version = VERSIONS[precision]
    scores: Scores = {}
    threshold = far = None
    with atomic_path(out) as temporary:
        for with_scores in (False, True) if scoring.sets else (False,):
            if with_scores:
                scores, threshold, far = _score(checkpoint, temporary, precision, scoring)
                facts.update(_score_facts(scores, threshold, far))
            model = graph.to_onnx(opset=opset, ir_version=ir_version, metadata=facts, image=target.image)
            temporary.write_bytes(model.SerializeToString())
            # The last images: the ranges of an INT8 file come from the first.
            images = None if calibration is None else calibration[-8 * BATCHES[-1] :]
            error, cosine = compare_with_mxnet(temporary, checkpoint, precision=precision, images=images)
        size = temporary.stat().st_size
    return Export(network, size, error, cosine, float_layers, scores, threshold, far)


def compare_with_mxnet(
    path: Path, checkpoint: Checkpoint, *, precision: str = "float32", images: Optional[np.ndarray] = None
) -> tuple[float, float]:
    """Run an ONNX file in onnxruntime and its checkpoint in MXNet, one image at a time and several.

    MXNet runs the operators of `vargfacenet.operators.runnable`, which are right on the CPU. In ``float32`` the
    relative error must be within `TOLERANCE`, in other precisions the mean cosine above `LEAST_COSINE`.

    Parameters
    ----------
    images
        float32 (n, 3, 112, 112), RGB, 0..255, whole batches of five; `probe_images` by default.

    Returns
    -------
    error, cosine
        The largest relative error of an embedding, and the mean cosine.

    Raises
    ------
    ExportError
        Where the embeddings differ, or one is not finite.
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


def check_request(target: Union[str, Target], precision: str, calibration: Optional[np.ndarray]) -> None:
    """Raise SettingError where `export_onnx` would refuse these arguments."""
    target, image = (target, ANY_NUMBER) if isinstance(target, str) else target
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if image.layout not in LAYOUTS:
        raise unknown("layout", image.layout, LAYOUTS)
    if image.dtype not in IMAGE_TYPES:
        raise unknown("type of the input", image.dtype, IMAGE_TYPES)
    if image.batch is not None:
        check_range("batch", image.batch, 1, MOST_AT_ONCE)
    if target == "insightface" and image != ANY_NUMBER:
        raise SettingError(
            "InsightFace's package takes images as float32 NCHW, any number at a time, and in no other form"
        )
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "int8" and calibration is None:
        raise SettingError("int8 needs faces to calibrate on: give --calibrate FOLDER, or a .rec file")
    if precision == "int8" and target not in ("plain", "openvino"):
        raise SettingError(
            f"int8 in the form for {target} would be larger and no faster: give --target plain or openvino"
        )


def metadata(
    network: Optional[Recognised], prefix: Path, epoch: int, *, image: ImageInput = ANY_NUMBER, **more: str
) -> dict[str, str]:
    """Return the properties that are written into a file."""
    bundled = find_model(prefix)
    inherited = {} if bundled is None else {**bundled.metadata(), "license": bundled.summary}
    return {
        **inherited,
        "made_by": f"vargfacenet {__version__}",
        "network": network.network if network else "other",
        "network_options": json.dumps(network.options if network else {}),
        "input": f"RGB, {image.dtype} ({image.batch or 'N'}, {', '.join(map(str, image.sides))}), 0..255",
        "output": "embedding, not normalised",
        "checkpoint": fingerprint(checkpoint_files(prefix, epoch)),
        **more,
    }


def _score(
    checkpoint: Checkpoint, path: pathlib.Path, precision: str, scoring: Scoring
) -> tuple[Scores, Optional[float], Optional[float]]:
    """Return the scores of MXNet and of a file, and the file's threshold on the last set with its false accept rate."""
    # The loss by fewer bits shows only in a runtime that computes in them: onnxruntime has no bfloat16 on a CPU.
    runtime = "openvino" if precision in ("bf16", "int8") and importlib.util.find_spec("openvino") else "onnxruntime"
    mxnet = None if set(scoring.sets) <= set(scoring.mxnet_scores) else Embedder(*checkpoint)
    onnx = OnnxEmbedder(path, runtime=runtime)
    scores: Scores = {}
    threshold = far = None
    for name, pairs in scoring.sets.items():
        known = scoring.mxnet_scores.get(name)
        if known is None and mxnet is not None:
            known = _verify(mxnet.embed(pairs.images, progress=scoring.progress), pairs)
        plain, mirrored = onnx.embed(pairs.images, progress=scoring.progress)
        scores[name] = {"mxnet": dict(known or {}), runtime: _verify((plain, mirrored), pairs)}
        cosines_of_pairs = 1 - pair_distances(plain + mirrored) / 2
        thresholds = {far: threshold_at_far(cosines_of_pairs[~pairs.is_same], far) for far in (FAR, 1e-2, 1e-1)}
        far = next((far for far, found in thresholds.items() if found is not None), None)
        threshold = None if far is None else thresholds[far]
        warn_without_spread(plain)
        for ran, score in scores[name].items():
            doubts = [accuracy_doubt(score["accuracy"], score["pairs"])]
            warn_of(f"{name}, by {ran}", [*doubts, threshold_doubt([threshold])] if ran == runtime else doubts)
    return scores, threshold, far


def _verify(embeddings: tuple[np.ndarray, np.ndarray], pairs: Pairs) -> dict[str, Any]:
    return verify_embeddings(*embeddings, pairs.is_same).as_dict()


def _score_facts(scores: Scores, threshold: Optional[float], far: Optional[float]) -> dict[str, str]:
    # The last of each set's scores is the file's, the first MXNet's.
    facts = {"accuracy": json.dumps({one: list(score.values())[-1]["accuracy"] for one, score in scores.items()})}
    if threshold is not None:
        facts.update(threshold=repr(threshold), threshold_far=f"{far:g}", threshold_set=list(scores)[-1])
    return facts
