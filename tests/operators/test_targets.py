"""The kernels on processors other than this one: they compile, and their loops and tiles use the vectors there are."""

import pathlib
import platform
import re
import shutil
import subprocess

import pytest

from vargfacenet.operators import library

KERNELS = pathlib.Path(library.__file__).parent / "kernels"
LOOPS = """
#include "join.h"
#include "norm.h"
#include "prelu.h"
#include "resize.h"
#include "scale.h"
using namespace vargfacenet;
void* functions[] = {(void*)prelu_forward, (void*)prelu_backward, (void*)norm_forward, (void*)norm_backward,
                     (void*)join_forward, (void*)join_backward, (void*)scale_forward, (void*)scale_backward,
                     (void*)mean_forward, (void*)mean_backward, (void*)resize_forward, (void*)resize_backward};
"""
TILES = """
#include "winograd.h"
using namespace vargfacenet;
void* functions[] = {(void*)gather_tile<kRows, 3>, (void*)gather_tile<kRows, 2>, (void*)gather_tile<kRows, 1>,
                     (void*)pairs_tile<kRows, 3>, (void*)pairs_tile<kRows, 2>, (void*)pairs_tile<kRows, 1>,
                     (void*)reduce_tile};
"""
EVERYTHING = """
#include "conv.h"
#include "pointwise.h"
#include "winograd.h"
using namespace vargfacenet;
void* functions[] = {(void*)winograd_forward<kRows>, (void*)winograd_backward<kRows>,
                     (void*)conv_forward<kRows>, (void*)conv_backward<kRows>, (void*)conv_forward<1>,
                     (void*)pointwise_forward<kRows>, (void*)pointwise_backward<kRows>};
"""
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of x86-64")


def compiled(tmp_path, code, *flags, compiler="g++"):
    """Compile a translation unit with the flags of the library; the object file, and the compiler's notes."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not here")
    source, target = tmp_path / "unit.cc", tmp_path / "unit.o"
    source.write_text(code)
    kept = [flag for flag in library.FLAGS if flag != "-shared"]
    command = [compiler, *kept, *flags, f"-I{KERNELS}", "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target, done.stderr


def innermost_loops(function):
    """The instructions of each loop that has no other jump, from the disassembly of one function."""
    lines = [line.split("\t", 1) for line in function.splitlines() if "\t" in line]
    addresses, code = [line[0].strip(" :") for line in lines], [line[1].strip() for line in lines]
    for end, one in enumerate(code):
        jump = re.match(r"j\w+\s+([0-9a-f]+) ", one)
        if jump and jump.group(1) in addresses[:end]:
            body = code[addresses.index(jump.group(1)) : end]
            if not any(re.match(r"j|ret|call", inside) for inside in body):
                yield body


@pytest.mark.parametrize("processor", ["haswell", "x86-64-v4"])
def test_every_simd_loop_is_vectorised(tmp_path, processor):
    """A condition in a loop needs masks, or arithmetic that may not trap: PReLU once ran one number at a time on AVX2."""
    _, notes = compiled(tmp_path, LOOPS, f"-march={processor}", "-fopt-info-vec-optimized")
    found = {(name, int(line)) for name, line in re.findall(r"(\w+\.h):(\d+):\d+: optimized: loop vectorized", notes)}
    expected = []
    for name in ("join.h", "norm.h", "prelu.h", "resize.h", "scale.h"):
        for number, text in enumerate((KERNELS / name).read_text().splitlines(), 1):
            if text.startswith("#pragma omp simd"):
                expected.append((name, number))
    assert len(expected) > 10
    missing = [one for one in expected if not any((one[0], one[1] + after) in found for after in range(4))]
    assert not missing


@pytest.mark.parametrize(("processor", "register"), [("haswell", "ymm"), ("x86-64-v4", "zmm")])
def test_the_sums_of_a_tile_stay_in_registers(tmp_path, processor, register):
    """A loop that multiplies and adds writes no vector to memory."""
    if not shutil.which("objdump"):
        pytest.skip("objdump is not here")
    target, _ = compiled(tmp_path, TILES, f"-march={processor}")
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(target)], capture_output=True, text=True, check=True
    ).stdout
    loops = [loop for function in re.split(r"\n\n", text) for loop in innermost_loops(function)]
    multiplying = [loop for loop in loops if any(one.startswith("vfmadd") for one in loop)]
    assert len(multiplying) >= 3 + 3 * 4 + 1
    for loop in multiplying:
        assert all(register in one for one in loop if one.startswith("vfmadd"))
        assert not [one for one in loop if re.match(r"vmov\w+\s+%[xyz]mm\d+,[^%]*\(", one)]


@pytest.mark.parametrize("processor", ["x86-64", "haswell", "x86-64-v4"])
def test_kernels_compile_for_other_processors(tmp_path, processor):
    compiled(tmp_path, EVERYTHING, f"-march={processor}", "-fsyntax-only")


def test_kernels_compile_for_arm(tmp_path):
    compiled(tmp_path, EVERYTHING, "-fsyntax-only", compiler="aarch64-linux-gnu-g++")
