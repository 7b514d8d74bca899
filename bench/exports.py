"""Every network as an ONNX file, in every form and precision: sizes, and differences from MXNet's embeddings."""

from __future__ import annotations

import importlib.util
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vargfacenet.bench.parameters import varied_parameters
from vargfacenet.bench.published import Published
from vargfacenet.deploy.export import export_onnx
from vargfacenet.deploy.probe import cosines, probe_images, relative_error
from vargfacenet.deploy.runtime import OnnxEmbedder, import_package
from vargfacenet.errors import VarGFaceNetError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.options import unknown
from vargfacenet.symbols import get_symbol

FORMS = (  # title, target, precision
    ("float32", "plain", "float32"),
    ("onnxruntime", "onnxruntime", "float32"),
    ("fp16", "plain", "fp16"),
    ("bf16", "plain", "bf16"),
    ("int8", "plain", "int8"),
)
_STATISTICS, _CALIBRATION, _COMPARISON = 16, 60, 5  # numbers of images


class Exported(NamedTuple):
    """One file of a network, or the reason why there is none.

    Attributes
    ----------
    form
        One of the titles in `FORMS`.
    bytes
        Size of the file.
    error, cosine
        In onnxruntime, against MXNet: the largest relative error of an embedding, and the mean cosine.
    openvino_error, openvino_cosine
        The same in OpenVINO, which computes bf16 files in bfloat16; None where it is not installed or does not run it.
    float_layers
        Number of layers that an INT8 file keeps in float32.
    failures
        Reasons, of the export or of OpenVINO.
    """

    form: str
    bytes: int | None = None
    error: float | None = None
    cosine: float | None = None
    openvino_error: float | None = None
    openvino_cosine: float | None = None
    float_layers: int = 0
    failures: tuple[str, ...] = ()


def export_forms(
    network: Published, *, forms: Sequence[str] = (), progress: Callable[[], object] | None = None
) -> list[Exported]:
    """Export a network with random weights in several forms, and compare each with MXNet.

    The weights and running statistics are those of `varied_parameters`. All images are probe images, on which the
    running statistics were taken and INT8 is calibrated. A form that is refused is a result, not an error.

    Parameters
    ----------
    network
        Its name and options.
    forms
        Titles in `FORMS`; all by default.
    progress
        Called after each form.

    Raises
    ------
    SettingError
        For an unknown form.
    SetupError
        Where onnx or onnxruntime is missing.
    """
    check_forms(forms)
    for package in ("onnx", "onnxruntime"):
        import_package(package)
    symbol = get_symbol(network.network, **network.options)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder, "model")
        save_checkpoint(prefix, 0, symbol, *varied_parameters(symbol, probe_images(_STATISTICS, seed=1)))
        images = probe_images(_COMPARISON, seed=2)
        expected = Embedder(*load_checkpoint(prefix, 0), batch_size=_COMPARISON).embed_batch(images)
        for title, target, precision in FORMS:
            if not forms or title in forms:
                found.append(_export(prefix, title, target, precision, images, expected))
                if progress:
                    progress()
    return found


def check_forms(forms: Sequence[str]) -> None:
    """Raise SettingError for an unknown form."""
    known = [title for title, _, _ in FORMS]
    for form in forms:
        if form not in known:
            raise unknown("form", form, known)


def _export(
    prefix: pathlib.Path, title: str, target: str, precision: str, images: np.ndarray, expected: np.ndarray
) -> Exported:
    path = prefix.with_suffix(".onnx")
    calibration = probe_images(_CALIBRATION, seed=3) if precision == "int8" else None
    try:
        done = export_onnx(prefix, 0, path, target=target, precision=precision, calibration=calibration)
    except VarGFaceNetError as error:
        return Exported(title, failures=(str(error),))
    row = Exported(title, done.bytes, done.error, done.cosine, float_layers=len(done.float_layers))
    if importlib.util.find_spec("openvino") is None:
        return row
    try:
        embeddings = OnnxEmbedder(path, runtime="openvino").embed_batch(images)
    except VarGFaceNetError as error:
        return row._replace(failures=(str(error),))
    errors = relative_error(embeddings, expected), float(cosines(embeddings, expected).mean())
    return row._replace(openvino_error=errors[0], openvino_cosine=errors[1])
