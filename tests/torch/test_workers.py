"""Workers that torchrun started: they train as the slices of one process do, and end with one line when one is gone."""

import os
import signal
import subprocess
import sys
import time

import mxnet as mx
import numpy as np
import pytest
import torch

from tests.helpers.ports import free_ports
from tests.helpers.training import TINY, newest_state, tiny
from tests.torch.compare import torch_stopped_after
from vargfacenet.engines import devices_for, parse_any_devices
from vargfacenet.errors import ClusterError, SettingError
from vargfacenet.torch.cluster import explained, is_launched, join_torch
from vargfacenet.torch.devices import parse_torch_devices
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume, RunFolder
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.training_state import TrainingStates

BOTH = [torch.device("cpu", 0), torch.device("cpu", 1)]
GENTLE = {"lr": 4e-7, "scale": 8, "m2": 0.1, "verify_every": 1000, "engine": "torch"}


def launched(face_folder, out, **settings):
    """Two workers that train a tiny network, started."""
    values = {**TINY, **GENTLE, **settings}
    words = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in values.items()
    ]
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_ports())]
    command = [
        "vargfacenet",
        "train",
        "demo_student_scratch",
        "--data",
        str(face_folder),
        "--out",
        str(out),
        "--set",
        *words,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", *torchrun, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_workers_train_as_two_slices_of_one_process(face_folder, tmp_path):
    settings = {"max_updates": 4, "save_every": 2}
    group = launched(face_folder, tmp_path / "workers", **settings)
    printed, _ = group.communicate(timeout=900)
    assert group.returncode == 0, printed
    train(tiny(**GENTLE, **settings), data=face_folder, out=tmp_path / "slices", runtime=Runtime(BOTH))
    found, expected = (newest_state(tmp_path / name) for name in ("workers", "slices"))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].asnumpy(), value.asnumpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_workers_share_the_classifier_as_two_devices_of_mxnet(face_folder, tmp_path):
    settings = {"max_updates": 4, "save_every": 2, "head": "sharded", "sample_rate": 0.5}
    group = launched(face_folder, tmp_path / "workers", **settings)
    printed, _ = group.communicate(timeout=900)
    assert group.returncode == 0, printed
    gentle = {**GENTLE, "engine": "mxnet"}
    train(
        tiny(**gentle, **settings), data=face_folder, out=tmp_path / "devices", runtime=Runtime([mx.cpu(0), mx.cpu(1)])
    )
    found, expected = (newest_state(tmp_path / name) for name in ("workers", "devices"))
    assert set(found) == set(expected)
    classifier = [name for name in expected if ":fc7_" in name]
    assert len(classifier) == 2
    for name in classifier:
        np.testing.assert_allclose(found[name].asnumpy(), expected[name].asnumpy(), rtol=1e-3, atol=1e-5, err_msg=name)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(one) for one in file.read().split()]


def environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return b"\0" + file.read()


def test_a_killed_worker_ends_the_run_with_one_line_and_one_process_goes_on(face_folder, tmp_path):
    out, settings = tmp_path / "run", {"max_updates": 400, "save_every": 2}
    group = launched(face_folder, out, **settings)
    limit = time.monotonic() + 900
    while not RunFolder(out).started:
        assert time.monotonic() < limit
        assert group.poll() is None, group.communicate()[0]
        time.sleep(0.05)
    workers = [pid for pid in children(group.pid) if b"\0RANK=1\0" in environment(pid)]
    os.kill(workers[0], signal.SIGKILL)
    printed, _ = group.communicate(timeout=900)
    assert group.returncode != 0
    ours = [line for line in printed.splitlines() if "vargfacenet" in line and "error:" in line]
    assert len(ours) <= 1, printed  # torchrun may end the other one before it has noticed
    assert not any("vargfacenet/" in line and line.lstrip().startswith("File") for line in printed.splitlines()), (
        printed
    )
    done = TrainingStates(out).newest().update
    with torch_stopped_after(2):
        train(tiny(**GENTLE, **settings), data=face_folder, out=out, resume=Resume(must=True))
    assert TrainingStates(out).newest().update == done + 2


def test_a_lost_worker_is_told_in_one_line():
    cluster = Cluster(1, 2)
    with (
        pytest.raises(
            ClusterError, match=r"worker 1 has lost another worker.*--resume continues.*Connection closed by peer"
        ),
        explained(cluster),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1\nmore")
    with pytest.raises(RuntimeError, match="size of tensor"), explained(cluster):
        raise RuntimeError("The size of tensor a must match")
    with pytest.raises(RuntimeError, match="gloo"), explained(ALONE):
        raise RuntimeError("gloo")


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert not is_launched()
    assert join_torch(BOTH[0]) is ALONE
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ClusterError, match="MASTER_ADDR, MASTER_PORT is missing.*torchrun"):
        join_torch(BOTH[0])


@pytest.mark.parametrize(
    ("text", "engine", "message"),
    [
        ("cuda:0", "mxnet", "engine=mxnet calls them gpu:N"),
        ("gpu:0", "torch", "engine=torch calls them cuda:N; gpu:N are those of engine=mxnet"),
        ("cpu:0,cpu:0", "torch", "the same one is given twice"),
        ("cuda:0,cuda:1", "auto", "start one worker for each with torchrun --nproc-per-node 2"),
    ],
)
def test_a_device_of_the_other_engine_is_named(text, engine, message):
    with pytest.raises(SettingError, match=message):
        parse_any_devices(text, engine)


def test_devices_are_those_of_the_engine():
    assert parse_torch_devices("cpu:0,cpu:1") == BOTH
    assert devices_for("torch", parse_any_devices("cpu:0,cpu:1", "mxnet")) == BOTH
    assert [str(device) for device in devices_for("mxnet", BOTH)] == ["cpu(0)", "cpu(1)"]
    assert parse_any_devices("cpu", "torch") == BOTH[:1]
