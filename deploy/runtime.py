"""What runs an ONNX file: onnxruntime, or OpenVINO."""

import functools

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.deploy.admission import MOST_BYTES, check_onnx
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SettingError, SetupError
from vargfacenet.eval import PictureEmbedder
from vargfacenet.files import read_bytes
from vargfacenet.options import unknown

RUNTIMES = ("onnxruntime", "openvino")
FIXED = 2  # pictures up to which OpenVINO is told their number beforehand: it takes a tenth to a quarter less time then


class OnnxEmbedder(PictureEmbedder):
    """An ONNX file ready to embed batches of pictures, on the CPU.

    Parameters
    ----------
    model : path or bytes
        The file, or its content.
    runtime : str
        One of `RUNTIMES`.
    precision : str, optional
        ``float32`` or ``bf16``, in which OpenVINO is to compute; onnxruntime knows ``float32`` alone. By default what
        the file was made for, and ``float32`` where the runtime or file knows nothing else.
    threads : int, optional
        One for each usable core by default.
    batch_size : int
        Pictures at a time.

    Attributes
    ----------
    metadata : dict of str to str
        What the file says of itself.

    Raises
    ------
    SetupError
        Where the runtime is not installed.
    DataError
        Where the file is missing or no network that embeds faces of 112x112, or not one of `check_onnx`.
    SettingError
        For an unknown runtime, or a precision it does not have.
    """

    def __init__(self, model, *, runtime="onnxruntime", precision=None, threads=None, batch_size=32):
        if runtime not in RUNTIMES:
            raise unknown("runtime", runtime, RUNTIMES)
        known = ("float32", "bf16") if runtime == "openvino" else ("float32",)
        if precision not in (None, *known):
            raise SettingError(f"precision {precision!r}: {runtime} computes in {' or '.join(known)}")
        self.batch_size = batch_size
        self._name = "the network" if isinstance(model, bytes) else str(model)
        content = model if isinstance(model, bytes) else read_bytes(model, limit=MOST_BYTES)
        self.metadata = _metadata(content, self._name)
        if precision is None:
            precision = self.metadata.get("precision") if self.metadata.get("precision") in known else "float32"
        threads = threads or usable_cores()
        if runtime == "onnxruntime":
            self._run = _onnxruntime(content, self._name, threads)
        else:
            self._run = _openvino(content, self._name, threads, precision, batch_size)

    def embed_batch(self, pictures):
        return self._run(np.ascontiguousarray(pictures, np.float32))


def import_package(name):
    """An optional package; SetupError with the command that installs it where it is missing."""
    extra = "openvino" if name == "openvino" else "deploy"
    try:
        return __import__(name)
    except ImportError as error:
        raise SetupError(
            f"the Python package {name!r} is missing or broken ({error}): pip install 'vargfacenet[{extra}]'"
        ) from error


def _metadata(content, name):
    onnx = import_package("onnx")
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:
        raise DataError(f"{name} is no ONNX file") from error
    given = [value.name for value in model.graph.input]
    if len(given) != 1 or len(model.graph.output) != 1:
        raise DataError(
            f"{name} is no network that embeds faces: it has {len(given)} inputs, {len(model.graph.output)} outputs"
        )
    check_onnx(model, name)
    return {entry.key: entry.value for entry in model.metadata_props}


def _onnxruntime(content, name, threads):
    onnxruntime = import_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DataError(f"onnxruntime does not take {name}: {_first_line(error)}") from error
    image = session.get_inputs()[0]
    _check_shape(name, list(image.shape), image.type == "tensor(float)")
    return lambda pictures: session.run(None, {image.name: pictures})[0]


def _openvino(content, name, threads, precision, batch_size):
    openvino = import_package("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bf16": "bf16"}[precision],
    }

    @functools.cache
    def compiled(count):
        """The network for `count` pictures; for any number with None."""
        try:
            model = core.read_model(content, b"")
            sizes = [size.get_length() if size.is_static else None for size in model.input(0).partial_shape]
            _check_shape(name, sizes, True)
            if count:
                model.reshape([count, *IMAGE_SHAPE])
            return core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise DataError(f"OpenVINO does not take {name}: {_first_line(error)}") from error

    def run(pictures):
        return np.array(compiled(_fixed(len(pictures)))(pictures)[0])

    compiled(_fixed(batch_size))  # so that a file it does not take is refused now
    return run


def _fixed(count):
    return count if 1 <= count <= FIXED else None


def _check_shape(name, shape, is_float):
    if shape[1:] != list(IMAGE_SHAPE) or isinstance(shape[0], int) or not is_float:
        raise DataError(
            f"{name} takes {shape}, expected any number of faces, float32 (N, {', '.join(map(str, IMAGE_SHAPE))})"
        )


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
