"""``vargfacenet doctor``: versions, devices and threads of this machine, and problems with them."""

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Callable
from types import ModuleType

from vargfacenet import __version__
from vargfacenet.environment import explain_import_failure, python_problem, usable_cores
from vargfacenet.threads import threads_in_use
from vargfacenet.torch import INSTALL, has_torch

PACKAGES = (
    "numpy",
    "mxnet",
    "cv2",
    "gluoncv",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "threadpoolctl",
    "easydict",
    "tqdm",
)


def add_parser(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add(
        description="Print versions, MXNet's features, devices and CPU threads, and each problem with its remedy. The exit "
        "status is 1 if there is any.",
        examples=("vargfacenet doctor",),
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    problems = []
    print(f"vargfacenet  {__version__}")
    print(f"python       {platform.python_version()} ({sys.executable})")
    print(f"machine      {platform.machine()}, {platform.platform()}")
    if python_problem():
        problems.append(python_problem())
    modules = {}
    for name in PACKAGES:
        try:
            modules[name] = importlib.import_module(name)
            print(f"{name:<12} {getattr(modules[name], '__version__', 'present')}")
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything
            print(f"{name:<12} cannot be imported")
            problems.append(explain_import_failure(error) or f"{name}: {error}")
    print(f"pytorch      {_pytorch()}")
    if "mxnet" in modules:
        problems += _look_at_mxnet(modules["mxnet"])
    problems = list(dict.fromkeys(problems))  # one missing library may break several packages
    for problem in problems:
        print(f"PROBLEM      {problem}")
    print("all is well" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _pytorch() -> str:
    if not has_torch():
        return f"not installed (for engine=torch: {INSTALL})"
    try:
        return importlib.import_module("vargfacenet.torch.describe").describe_torch()
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything
        return f"cannot be imported: {' '.join(str(error).split())[:200]}"


def _look_at_operators() -> list[str]:
    # Here, because the operators import MXNet, which may be what is wrong.
    from vargfacenet.errors import VarGFaceNetError
    from vargfacenet.operators import choose_backend, describe_forms, load_library, missing_for_native

    try:
        backend = choose_backend()
        reason = missing_for_native() if backend == "basic" else None
        about = f", {load_library().origin}" if backend == "native" else ""
        print(f"operators    {backend}{f'; native ones would be faster: {reason}' if reason else about}")
        if backend == "native":
            print(f"convolutions {describe_forms()}")
    except VarGFaceNetError as error:
        return [str(error)]
    return []


def _look_at_mxnet(mx: ModuleType) -> list[str]:
    problems = []
    features = mx.runtime.Features()
    enabled = [
        name for name in ("MKLDNN", "OPENMP", "CUDA", "CUDNN", "NCCL", "F16C", "DIST_KVSTORE") if name in features
    ]
    enabled = [name for name in enabled if features.is_enabled(name)]
    print(f"features     {', '.join(enabled)}")
    gpus = mx.context.num_gpus()
    print(f"devices      cpu:0{''.join(f', gpu:{number}' for number in range(gpus))}")
    threads, cores = os.environ.get("OMP_NUM_THREADS"), usable_cores()
    in_use = str(threads_in_use() or threads)
    idle = in_use.isdigit() and int(in_use) < cores
    remark = f"; unset it, or set it to {cores}, to use them all" if idle else ""
    print(f"CPU threads  {in_use} of {cores} usable cores (OMP_NUM_THREADS{remark})")
    if not (threads or "").isdigit():
        problems.append(f"OMP_NUM_THREADS is {threads!r}: unset it, or give a number")
    problems += _look_at_operators()
    if "MKLDNN" not in enabled:
        problems.append("this MXNet lacks oneDNN and will be slow on the CPU: pip install mxnet==1.9.1")
    if os.environ.get("MXNET_ENGINE_TYPE") == "NaiveEngine":
        problems.append("MXNET_ENGINE_TYPE=NaiveEngine runs one operator at a time: unset it unless you debug")
    try:
        total = float((mx.nd.ones((2, 3)) * 2).sum().asscalar())
    except mx.base.MXNetError as error:
        problems.append(f"MXNet cannot compute: {str(error).splitlines()[-1]}")
    else:
        if total != 12:
            problems.append(f"MXNet computes 2 x 6 as {total}: its installation is broken")
    return problems
