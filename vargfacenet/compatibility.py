"""Make MXNet 1.9.1, the last release, importable with current versions of Python and NumPy.

`install` puts a hook before Python's own importers. While ``mxnet`` is imported, the names that NumPy has removed since
then are added to ``numpy``; afterwards they are removed again, as other packages test for them to find NumPy's version.
Names that MXNet's functions look up later, when they run, are added to MXNet's own modules.

While ``gluoncv`` is imported, PyTorch is hidden from it: it refuses every PyTorch from 2.0 on. While ``mxnet`` is
imported, scikit-learn is hidden from it unless it has been imported already.
"""

import contextlib
import importlib
import importlib.util
import numbers
import struct
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

PACKAGE = "mxnet"
SCHEDULERS = "gluoncv"


class Removed(NamedTuple):
    """A name that NumPy removed: its replacement, the release that removed it, and where MXNet looks it up."""

    make: Callable[[Any], Any]
    removed_in: str
    reason: str


def _placeholder(_numpy: Any) -> Any:
    return _refuse


def _refuse(*_args: Any, **_options: Any) -> Any:
    raise NotImplementedError("NumPy has removed this function, and MXNet's copy of its name cannot compute it")


_FALLBACK = "mxnet.numpy.fallback copies it"
_SCALARS = "mxnet.numpy.utils copies it"
_DISPATCH = "mxnet.numpy_dispatch_protocol registers it"
_FINANCE = "mxnet.numpy.fallback copies it; it is in numpy-financial now"

#: The names that MXNet 1.9.1 needs while it is imported. Only those that the installed NumPy lacks are lent.
REMOVED_NAMES: dict[str, Removed] = {
    "bool": Removed(lambda np: bool, "1.24, back in 2.0", "mxnet.numpy.utils and mxnet.test_utils copy it"),
    "PZERO": Removed(lambda np: 0.0, "2.0", _SCALARS),
    "NZERO": Removed(lambda np: -0.0, "2.0", _SCALARS),
    "PINF": Removed(lambda np: np.inf, "2.0", _SCALARS),
    "NINF": Removed(lambda np: -np.inf, "2.0", _SCALARS),
    "Inf": Removed(lambda np: np.inf, "2.0", "mxnet.gluon.contrib.estimator.event_handler starts from it"),
    "NAN": Removed(lambda np: np.nan, "2.0", _SCALARS),
    "NaN": Removed(lambda np: np.nan, "2.0", _SCALARS),
    "alltrue": Removed(lambda np: np.all, "2.0", _FALLBACK),
    "sometrue": Removed(lambda np: np.any, "2.0", _DISPATCH),
    "product": Removed(lambda np: np.prod, "2.0", _DISPATCH),
    "round_": Removed(lambda np: np.round, "2.0", _DISPATCH),
    "msort": Removed(lambda np: lambda a: np.sort(a, axis=0), "2.0", _FALLBACK),
    "in1d": Removed(lambda np: np.isin, "2.4", _FALLBACK),
    "trapz": Removed(lambda np: np.trapezoid if hasattr(np, "trapezoid") else np.trapz, "2.4", _FALLBACK),
    "mirr": Removed(_placeholder, "1.20", _FINANCE),
    "npv": Removed(_placeholder, "1.20", _FINANCE),
    "pmt": Removed(_placeholder, "1.20", _FINANCE),
    "ppmt": Removed(_placeholder, "1.20", _FINANCE),
    "pv": Removed(_placeholder, "1.20", _FINANCE),
    "rate": Removed(_placeholder, "1.20", _FINANCE),
}


def install() -> None:
    """Make every later ``import mxnet`` of this process work with what is installed. Calling it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def lent_names() -> Iterator[None]:
    """Add `REMOVED_NAMES` to ``numpy`` for the time of the block; names that NumPy still has stay as they are."""
    import numpy as np

    lent = {}
    with warnings.catch_warnings():
        # Some releases of NumPy still have a name but warn of it; Python warns of MXNet's old syntax.
        for category in (DeprecationWarning, FutureWarning, SyntaxWarning):
            warnings.simplefilter("ignore", category)
        for name, removed in REMOVED_NAMES.items():
            if not hasattr(np, name):
                lent[name] = removed.make(np)
                setattr(np, name, lent[name])
        try:
            yield
        finally:
            for name in lent:
                delattr(np, name)


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Make the import of a package fail for the time of the block, also where it has been imported already."""
    before = sys.modules.pop(package, None)  # a None in its place would make SciPy fail, which looks there
    hiding = _Hiding(package)
    sys.meta_path.insert(0, hiding)
    try:
        yield
    finally:
        sys.meta_path.remove(hiding)
        if before is not None:
            sys.modules[package] = before


class _Hiding:
    """Find no such package, and let no other finder look for it."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional["ModuleSpec"]:
        if fullname == self._package:
            raise ModuleNotFoundError(f"{fullname} is hidden while a package is imported", name=fullname)
        return None


class _Finder:
    """Find ``mxnet`` and ``gluoncv`` by the other finders, and import them with what they need."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional["ModuleSpec"]:
        if fullname not in (PACKAGE, SCHEDULERS):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: Optional[ModuleSpec] = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    wrapper: Any = _Loader(spec.loader)
                    spec.loader = wrapper
                return spec
        return None


class _Loader:
    """A loader that prepares what the module needs while it runs, and afterwards restores the module's own loader."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: "ModuleSpec") -> Optional[types.ModuleType]:
        created: Optional[types.ModuleType] = self._loader.create_module(spec)
        return created

    def exec_module(self, module: types.ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        provide_distutils()
        if module.__name__ == SCHEDULERS:
            with without("torch"):
                self._loader.exec_module(module)
            return
        # scikit-learn takes a third of a second to load, for a base class of the deprecated FeedForward.
        with lent_names(), contextlib.nullcontext() if "sklearn" in sys.modules else without("sklearn"):
            self._loader.exec_module(module)
        mend(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def provide_distutils() -> None:
    """Make ``distutils``, gone from Python 3.12, importable from setuptools' copy; do nothing where it exists."""
    if importlib.util.find_spec("distutils") is None:
        importlib.import_module("setuptools")  # its import installs the copy under the missing name


def mend(mxnet: types.ModuleType) -> None:
    """Add the names that MXNet's functions look up in NumPy when they run."""
    import numpy as np

    if not hasattr(np.ndarray, "tostring"):  # removed in 2.3; an attribute cannot be added to the type of arrays
        mxnet.recordio.pack, mxnet.recordio.pack_img = _pack, _pack_img
    missing = {name: value for name, value in _LOOKED_UP_LATER.items() if not hasattr(np, name)}
    if missing:
        view = _NumPyView(np, missing)
        for name, module in list(sys.modules.items()):
            for alias in ("np", "_np", "onp"):
                if name.startswith(f"{PACKAGE}.") and vars(module).get(alias) is np:
                    setattr(module, alias, view)


#: Names that MXNet's functions look up when they run: ``bool`` when an array of ``mxnet.numpy`` is indexed (missing from NumPy
#: 1.24 to 1.26), ``compat.basestring`` in its ``pad`` and ``Inf`` in the estimators' handlers (missing from 2.0 on), ``int`` in
#: ``mxnet.test_utils`` (missing from 1.24 on).
_LOOKED_UP_LATER: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "Inf": float("inf"),
    "compat": types.SimpleNamespace(basestring=str),
}


class _NumPyView(types.ModuleType):
    """NumPy with additional names, for MXNet's modules."""

    def __init__(self, numpy: types.ModuleType, names: dict[str, Any]) -> None:
        super().__init__(numpy.__name__)
        self.__dict__.update(names)
        self._numpy = numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)


def _pack(header: Any, s: bytes) -> bytes:
    """Return a record's content preceded by its header, as `mx.recordio.pack` does, without `ndarray.tostring`."""
    import numpy as np

    _, label, key, other = header
    if isinstance(label, numbers.Number):
        return struct.pack("<IfQQ", 0, label, key, other) + s
    labels = np.asarray(label, dtype=np.float32)
    return struct.pack("<IfQQ", labels.size, 0.0, key, other) + labels.tobytes() + s


def _pack_img(header: Any, img: Any, quality: int = 95, img_fmt: str = ".jpg") -> bytes:
    """Return `_pack` of an image, BGR, encoded as JPEG or PNG, as `mx.recordio.pack_img` does."""
    import cv2

    options = {".jpg": cv2.IMWRITE_JPEG_QUALITY, ".jpeg": cv2.IMWRITE_JPEG_QUALITY, ".png": cv2.IMWRITE_PNG_COMPRESSION}
    option = options.get(img_fmt.lower())
    done, encoded = cv2.imencode(img_fmt, img, [option, quality] if option is not None else [])
    if not done:
        raise ValueError(f"OpenCV cannot encode the image as {img_fmt}")
    return _pack(header, encoded.tobytes())
