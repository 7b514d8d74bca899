"""The speed of each convolution of a network in training, against the most that a core computes."""

from __future__ import annotations

import collections
import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import mxnet as mx

from vargfacenet import IMAGE_SHAPE
from vargfacenet.errors import SettingError
from vargfacenet.operators.forms import Shape, convolution_symbol, time_forms
from vargfacenet.operators.library import load_library
from vargfacenet.operators.native import convolution_shapes
from vargfacenet.operators.nodes import Copy
from vargfacenet.symbols import get_symbol
from vargfacenet.threads import one_thread


def measure_kernels(
    network: str, options: Mapping[str, Any], *, images: int, rounds: int, progress: Callable[[], Any]
) -> dict[str, Any]:
    """Measure the native convolutions of a network.

    SetupError where there are no native operators, SettingError as from `network_shapes`.

    Times are those of one thread on the processor, the median of `rounds`.

    Returns
    -------
    dict
        ``peak`` in GFLOP/s; ``kernels``, a list of dicts with ``shape``, ``count`` in the network, ``gflop`` of a forward
        pass of all of them, ``forward`` and ``backward`` in GFLOP/s, and ``native`` and ``mxnet``, milliseconds of the two
        forms between native operators, forward and backward.
    """
    library = load_library()
    shapes = network_shapes(network, options)
    peak = ctypes.CDLL(str(library.path)).vargfacenet_peak_gflops
    peak.restype = ctypes.c_double
    found: dict[str, Any] = {"network": network, "images": images, "peak": peak(), "kernels": []}
    for shape, count in shapes.items():
        with one_thread():
            forward, backward = _seconds(shape, images, rounds)
        operations = 2 * images * multiply_adds(shape) / 1e9
        kernel = {"shape": str(shape), "count": count, "gflop": count * operations}
        kernel.update(forward=operations / forward, backward=2 * operations / backward)
        found["kernels"].append({**kernel, **time_forms(shape, images=images, rounds=rounds)})
        progress()
    found["peak"] = max(found["peak"], peak())  # again, as the processor's clock varies
    return found


def network_shapes(network: str, options: Mapping[str, Any]) -> dict[Shape, int]:
    """Return the convolutions that native operators can compute in training, and how often the network has each.

    SettingError for a network that has none.
    """
    copy = Copy(get_symbol(network, **options), (2, *IMAGE_SHAPE))
    found = dict(collections.Counter(convolution_shapes(copy).values()))
    if not found:
        raise SettingError(
            f"{network} has no convolution that native operators compute in training: name another network"
        )
    return found


def multiply_adds(shape: Shape) -> int:
    """Return the multiply-adds of a convolution of one image."""
    height, width = ((size - 1) // shape.stride + 1 for size in (shape.height, shape.width))
    return height * width * shape.outputs * (shape.channels // shape.groups) * shape.kernel**2


def kernel_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of a report, the costliest kernel first, with the whole network in the last row."""
    peak = report["peak"]
    headings = ["convolution", "number", "forward", "of peak", "backward", "of peak", "native ms", "MXNet's ms"]
    rows = []
    for one in sorted(report["kernels"], key=_seconds_in_network, reverse=True):
        rates = [text for way in ("forward", "backward") for text in (f"{one[way]:.0f}", f"{one[way] / peak:.0%}")]
        rows.append([one["shape"], str(one["count"]), *rates, f"{one['native']:.2f}", f"{one['mxnet']:.2f}"])
    work = sum(one["gflop"] for one in report["kernels"])
    rates = []
    for way, times in (("forward", 1), ("backward", 2)):
        rate = times * work / sum(times * one["gflop"] / one[way] for one in report["kernels"])
        rates += [f"{rate:.0f}", f"{rate / peak:.0%}"]
    totals = [f"{sum(one['count'] * one[form] for one in report['kernels']):.1f}" for form in ("native", "mxnet")]
    rows.append(["all", str(sum(one["count"] for one in report["kernels"])), *rates, *totals])
    return headings, rows


def _seconds_in_network(kernel: Mapping[str, Any]) -> float:
    return kernel["gflop"] / kernel["forward"] + 2 * kernel["gflop"] / kernel["backward"]


def _seconds(shape: Shape, images: int, rounds: int) -> tuple[float, float]:
    """Return the seconds of the native convolution, forward and backward."""
    symbol = convolution_symbol("native", shape, mx.sym.var("data"))
    executor = symbol.simple_bind(mx.cpu(), data=(images, shape.channels, shape.height, shape.width))
    for array in executor.arg_dict.values():
        array[:] = 0.01
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for way, run in enumerate(
            (lambda: executor.forward(is_train=True), lambda: executor.backward(executor.outputs))
        ):
            mx.nd.waitall()
            begin = time.process_time()
            run()
            mx.nd.waitall()
            if number:  # the first round allocates memory
                times[way].append(time.process_time() - begin)
    return statistics.median(times[0]), statistics.median(times[1])
