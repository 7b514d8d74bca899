"""What is measured of kernels: the work of the network, and rates below a core's peak."""

import json

import pytest

from vargfacenet.bench.kernels import kernel_table, multiply_adds, network_shapes
from vargfacenet.commands import main
from vargfacenet.environment import instruction_sets
from vargfacenet.symbols import get_symbol
from vargfacenet.symbols.complexity import complexity

TINY = {"multiplier": 0.25, "units": (1, 1, 1), "embedding_size": 16}


def test_the_kernels_do_most_of_the_work_of_the_network():
    whole = complexity(get_symbol("vargfacenet")).multiply_adds
    found = sum(count * multiply_adds(shape) for shape, count in network_shapes("vargfacenet", {}).items())
    assert 0.98 * whole < found <= whole


@pytest.mark.usefixtures("native")
def test_bench_prints_the_rate_of_each_kernel(capsys, tmp_path):
    path = tmp_path / "kernels.json"
    sizes = ["--batch-size", "1", "--rounds", "1", "--set", "multiplier=0.25", "units=1,1,1", "embedding_size=16"]
    assert main(["bench", "kernels", *sizes, "--json", str(path)]) == 0
    report, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert {one["shape"] for one in report["kernels"]} == {str(shape) for shape in network_shapes("vargfacenet", TINY)}
    for one in report["kernels"]:
        assert one["shape"] in printed
        assert 0 < one["forward"] < report["peak"]
        assert 0 < one["backward"] < report["peak"]
        assert min(one["native"], one["mxnet"]) > 0
    assert f"a core computes at most {report['peak']:.0f} GFLOP/s" in printed


def test_the_table_sums_times_not_rates():
    kernels = [
        {"shape": "a", "count": 1, "gflop": 10.0, "forward": 10.0, "backward": 20.0, "native": 1.0, "mxnet": 2.0},
        {"shape": "b", "count": 2, "gflop": 10.0, "forward": 30.0, "backward": 20.0, "native": 1.5, "mxnet": 1.0},
    ]
    _, rows = kernel_table({"peak": 40.0, "kernels": kernels})
    assert [row[0] for row in rows] == ["a", "b", "all"]  # the costliest first
    assert rows[-1] == ["all", "3", "15", "38%", "20", "50%", "4.0", "4.0"]


def test_limits_of_the_instruction_sets_are_named(monkeypatch):
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("VARGFACENET_MARCH", "haswell")
    assert instruction_sets().endswith("(VARGFACENET_MARCH=haswell)")
    monkeypatch.delenv("VARGFACENET_MARCH")
    assert "(" not in instruction_sets()


def test_a_network_without_such_convolutions_is_refused(capsys):
    assert main(["bench", "kernels", "--network", "edgeface"]) == 2
    assert "edgeface has no convolution that native operators compute in training" in capsys.readouterr().err
