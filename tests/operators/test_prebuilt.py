"""Native operators without a compiler: the prebuilt library that fits the processor, or none."""

import os
import platform
import shutil
import subprocess
import sys

import pytest

from vargfacenet import environment
from vargfacenet.commands import main
from vargfacenet.errors import SetupError
from vargfacenet.operators import build, choose_backend, compiler, library, prebuilt

V4, V3, ARM = prebuilt.TARGETS
AVX2 = "fpu sse2 avx avx2 fma f16c bmi1 bmi2 movbe abm xsave"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"
LOAD_PREBUILT = """
import pathlib, sys
from vargfacenet.operators import choose_backend, load_library, prebuilt
prebuilt.FOLDER = pathlib.Path(sys.argv[1])
print(choose_backend(), load_library(), sep="\\n")
"""


def place(target, version=None):
    """A file in the place of a library."""
    prebuilt.FOLDER.mkdir(exist_ok=True)
    path = prebuilt.path_of(target) if version is None else prebuilt.FOLDER / f"{target.name}-{version}.so"
    path.write_text("library")
    path.with_suffix(".sum").write_text(compiler._checksum(path))
    return path


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without compilers, and with the features of the processor that a test writes."""
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path / "prebuilt")
    monkeypatch.setattr(environment, "CPU_INFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("CXX", "VARGFACENET_OPERATORS", library.MARCH):
        monkeypatch.delenv(variable, raising=False)
    library._load_once.cache_clear()
    yield tmp_path / "cpuinfo"
    library._load_once.cache_clear()


@pytest.mark.parametrize(
    ("name", "features", "target"),
    [
        ("x86_64", AVX512, V4),
        ("x86_64", AVX2, V3),
        ("x86_64", AVX512.replace("avx512vl", ""), V3),
        ("x86_64", AVX512.replace("fma", ""), None),
        ("x86_64", "fpu sse2", None),
        ("aarch64", "fp asimd", ARM),
        ("riscv64", AVX512, None),
    ],
    ids=["avx512", "avx2", "no-vl", "no-fma", "sse2", "arm", "riscv"],
)
def test_the_best_library_that_the_processor_runs_is_chosen(machine, monkeypatch, name, features, target):
    machine.write_text(f"processor : 0\nflags     : {features}\n")
    monkeypatch.setattr(platform, "machine", lambda: name)
    paths = {one: place(one) for one in prebuilt.TARGETS}
    found = prebuilt.find()
    if target is None:
        assert found == f"the prebuilt operators are for aarch64, x86-64-v3, x86-64-v4, not for this processor ({name})"
    else:
        assert found == (paths[target], target.name)


def test_the_next_best_is_chosen_where_the_best_is_cut_or_missing(machine):
    machine.write_text(f"flags : {AVX512}\n")
    best, next_best = place(V4), place(V3)
    best.write_text("libr")
    assert prebuilt.find() == (next_best, V3.name)
    next_best.unlink()
    assert "not for this processor" in prebuilt.find()


def test_one_target_can_be_asked_for(machine):
    machine.write_text(f"flags : {AVX512}\n")
    place(V4)
    path = place(V3)
    assert prebuilt.find("x86-64-v3") == (path, V3.name)
    assert prebuilt.find("haswell").endswith("not for this processor (x86_64) and haswell alone")


def test_a_library_of_another_version_is_never_loaded(machine, monkeypatch):
    machine.write_text(f"flags : {AVX512}\n")
    monkeypatch.setattr(library, "_load_error", lambda path: pytest.fail(f"{path} was loaded"))
    place(V4, version="0123456789ab")
    assert "the prebuilt operators are of another version: reinstall" in library.missing_for_native()
    kept, before = place(V3), prebuilt.version()
    monkeypatch.setattr(prebuilt, "sources_digest", lambda: "another source")
    assert prebuilt.version() != before
    assert prebuilt.find() == prebuilt.find() != (kept, V3.name)


def test_without_compiler_and_prebuilt_operators_the_basic_ones_are_taken(machine, capsys):
    machine.write_text(f"flags : {AVX512}\n")
    assert prebuilt.find() is None
    assert choose_backend() == "basic"
    place(ARM)
    library._load_once.cache_clear()
    assert main(["doctor"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("operators")]
    assert "basic; native ones would be faster: no C++ compiler is found: install g++" in line
    assert line.endswith("; the prebuilt operators are for aarch64, not for this processor (x86_64)")


@pytest.mark.usefixtures("native")
def test_without_a_compiler_a_prebuilt_library_serves(tmp_path):
    """The library that was compiled for this processor stands for the prebuilt one."""
    flags = environment.processor_flags()
    target = next((one for one in prebuilt.TARGETS if one.machine == platform.machine() and one.needs <= flags), None)
    if target is None:
        pytest.skip("nothing is prebuilt for this processor")
    place_of = tmp_path / prebuilt.path_of(target).name
    shutil.copy(library.load_library().path, place_of)
    place_of.with_suffix(".sum").write_text(compiler._checksum(place_of))
    command = [sys.executable, "-c", LOAD_PREBUILT, str(tmp_path)]
    nothing = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), library.MARCH: target.march}
    variables = {**os.environ, **nothing, "CXX": ""}
    out = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    backend, loaded = out.splitlines()[-2:]
    assert backend == "native"
    assert str(place_of) in loaded
    assert f"prebuilt for {target.name}, as no C++ compiler is found" in loaded


def test_a_prebuilt_library_that_cannot_be_loaded_is_named(machine, monkeypatch):
    machine.write_text(f"flags : {AVX2}\n")
    path = place(V3)
    monkeypatch.setattr(library, "_load_error", lambda path: "GLIBC_9 not found")
    assert library.missing_for_native().endswith(f"; the prebuilt {path} cannot be loaded: GLIBC_9 not found")


def test_a_build_leaves_out_targets_without_a_compiler_and_other_versions(machine, monkeypatch, capsys):
    built = []

    def compile_library(name, flags, path):
        built.append((os.path.basename(name), flags[-1]))
        path.parent.mkdir(exist_ok=True)
        path.write_text("library")

    (machine.parent / "g++").write_text("#!/bin/sh\n")
    (machine.parent / "g++").chmod(0o755)
    monkeypatch.setattr(build, "compile_library", compile_library)
    old = place(V4, version="0123456789ab")
    assert build.main() == 0
    assert built == [("g++", "-march=x86-64-v4"), ("g++", "-march=x86-64-v3")]
    assert not old.exists()
    assert sorted(prebuilt.FOLDER.iterdir()) == sorted(prebuilt.path_of(one) for one in (V3, V4))
    assert (
        "aarch64: left out, aarch64-linux-gnu-g++ is not found: install g++-aarch64-linux-gnu"
        in capsys.readouterr().out
    )
    (machine.parent / "g++").unlink()
    with pytest.raises(SetupError, match="no C.. compiler is found"):
        build.build(ARM._replace(machine="x86_64"))
    assert build.main() == 1
