"""The choice of operators, and where the native ones come from."""

import os
import shlex
import subprocess
import sys

import mxnet as mx
import pytest

from vargfacenet.commands import main
from vargfacenet.errors import SettingError, SetupError
from vargfacenet.operators import backends, choose_backend, compiler, library, prebuilt, runnable
from vargfacenet.symbols import get_symbol

# In place of the compiler: copies the library that is there already, once a second process has come as far.
COPY = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
echo >>{started}
tries=0
while [ "$(wc -l <{started})" -lt 2 ] && [ $tries -lt 6000 ]; do sleep 0.1; tries=$((tries + 1)); done
cp {library} "$2"
"""


def start(cache, **environment):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    code = "from vargfacenet.operators import choose_backend; print(choose_backend())"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    )


def operators(symbol):
    """Names of the operators that a graph runs on."""
    return {line.split('"')[3] for line in symbol.tojson().splitlines() if line.strip().startswith('"op"')}


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine that has neither a compiler nor what one made."""
    library._load_once.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path / "prebuilt")
    yield
    library._load_once.cache_clear()


@pytest.mark.usefixtures("native")
def test_native_operators_are_chosen_where_they_can_be_had(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    assert choose_backend() == "native"
    assert choose_backend(mx.cpu(1)) == "native"
    found = operators(runnable(get_symbol("vargfacenet"), for_training=True))
    assert {"vargfacenet_norm_prelu", "vargfacenet_convolution", "vargfacenet_join_scaled", "vargfacenet_join"} <= found
    assert "LeakyReLU" not in found


def test_gpus_take_basic_operators(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    assert choose_backend(mx.gpu(0)) == "basic"
    monkeypatch.setenv(backends.VARIABLE, "native")
    with pytest.raises(SettingError, match=r"native is for CPUs, the device is gpu\(0\)"):
        choose_backend(mx.gpu(0))


def test_the_environment_chooses(monkeypatch):
    for backend in ("basic", "stock"):
        monkeypatch.setenv(backends.VARIABLE, backend)
        assert choose_backend() == backend
    monkeypatch.setenv(backends.VARIABLE, "fast")
    with pytest.raises(SettingError, match="VARGFACENET_OPERATORS=fast: expected one of native, basic, stock"):
        choose_backend()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_basic_operators_are_taken(capsys):
    assert choose_backend() == "basic"
    found = operators(runnable(get_symbol("vargfacenet"), for_training=True))
    assert not [name for name in found if name.startswith("vargfacenet")]
    assert "LeakyReLU" not in found
    assert main(["doctor"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("operators")]
    assert len(lines) == 1
    assert "basic; native ones would be faster" in lines[0]
    assert "install g++" in lines[0]


@pytest.mark.usefixtures("no_compiler")
def test_native_operators_that_cannot_be_had_are_an_error_where_asked_for(monkeypatch, capsys):
    monkeypatch.setenv(backends.VARIABLE, "native")
    with pytest.raises(SetupError, match="VARGFACENET_OPERATORS=native: no C.. compiler is found: install g.."):
        choose_backend()
    assert main(["doctor"]) == 1
    assert "PROBLEM      VARGFACENET_OPERATORS=native: no C++ compiler" in capsys.readouterr().out


@pytest.mark.usefixtures("no_compiler")
def test_a_compiler_that_is_not_there_or_fails_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "nonsense")
    assert "CXX=nonsense is not there" in library.missing_for_native()
    library._load_once.cache_clear()
    monkeypatch.setenv("CXX", "/bin/false")
    assert "/bin/false cannot compile the native operators" in library.missing_for_native()
    assert not list(library.cache_folder().iterdir())


@pytest.mark.usefixtures("no_compiler")
def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose_backend() == "basic"
    assert "set XDG_CACHE_HOME" in library.missing_for_native()


def test_another_mxnet_is_not_compiled_for(monkeypatch):
    monkeypatch.setattr(mx, "__version__", "1.8.0")
    assert "for MXNet 1.9.1, this is 1.8.0" in library._load_once.__wrapped__()


def test_the_library_is_kept_by_source_compiler_and_processor(monkeypatch):
    first = library.library_path()
    assert library.library_path() == first
    monkeypatch.setenv("CXX", "another")
    second = library.library_path()
    monkeypatch.setattr(library, "processor", lambda: "another")
    third = library.library_path()
    monkeypatch.setattr(library, "FLAGS", (*library.FLAGS, "-g"))
    assert len({first, second, third, library.library_path()}) == 4


@pytest.mark.usefixtures("native")
def test_two_processes_may_compile_at_once_and_a_broken_library_is_replaced(tmp_path, monkeypatch):
    """With a stand-in for the compiler: a real one has made the library that every other test of it loads."""
    compiler, started = tmp_path / "compiler", tmp_path / "started"
    compiler.write_text(
        COPY.format(library=shlex.quote(str(library.library_path())), started=shlex.quote(str(started)))
    )
    compiler.chmod(0o755)
    both = [start(tmp_path, CXX=str(compiler)) for _ in range(2)]
    for process in both:
        assert process.communicate()[0].splitlines()[-1] == "native"
    assert len(started.read_text()) == 2  # both compiled at once, as each waited for the other
    kept = list((tmp_path / "vargfacenet").glob("*.so"))
    assert len(kept) == 1
    size = kept[0].stat().st_size
    os.truncate(kept[0], size // 2)  # which to load would kill the process

    loaded = []
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "_load_error", lambda path: loaded.append((path, path.stat().st_size)))
    assert library._load_once.__wrapped__() == library.Library(kept[0], "compiled for this processor")
    assert loaded == [(kept[0], size)]
    assert len(started.read_text()) == 3
    compiler.write_text("#!/bin/sh\nexit 1\n")  # what is kept needs none
    assert library._load_once.__wrapped__() == library.Library(kept[0], "compiled for this processor")
    assert loaded == [(kept[0], size)] * 2


def test_a_library_that_is_cut_or_anothers_is_compiled_again_and_never_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = library.library_path()
    path.parent.mkdir(parents=True)
    loaded = []

    def compile_(*_):
        raise SetupError("compiled anew")

    monkeypatch.setattr(library, "compile_library", compile_)
    monkeypatch.setattr(library, "find_compiler", lambda: "g++")
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path / "prebuilt")
    monkeypatch.setattr(library, "_load_error", loaded.append)
    path.write_bytes(b"library")
    assert library._load_once.__wrapped__() == "compiled anew"  # there is no sum beside it
    path.with_suffix(".sum").write_text(compiler._checksum(path))
    assert library._load_once.__wrapped__() == library.Library(path, "compiled for this processor")
    path.write_bytes(b"libr")
    assert library._load_once.__wrapped__() == "compiled anew"
    assert loaded == [path]
