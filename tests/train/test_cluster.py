"""Several workers: what they exchange, and that they train as the devices of one process do."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.ports import free_ports
from tests.helpers.training import TINY, newest_state, parameters, tiny
from vargfacenet.devices import check_devices
from vargfacenet.errors import ClusterError, SettingError
from vargfacenet.launch.member import GroupOptions, run_member
from vargfacenet.operators import choose_backend
from vargfacenet.train.cluster import ALONE, join
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.training_state import TrainingStates

BOTH = [mx.cpu(0), mx.cpu(1)]
LONG = {"max_updates": 30, "save_every": 3, "verify_every": 1000}


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """What each of two workers wrote: list of (arrays, texts)."""
    out, port = tmp_path_factory.mktemp("exchanged"), free_ports()
    command = [sys.executable, "-m", "tests.train.worker", str(out)]
    members = [
        threading.Thread(
            target=run_member,
            args=(command,),
            kwargs={
                "rank": rank,
                "size": 2,
                "root": "127.0.0.1",
                "options": GroupOptions(port, servers=1, timeout=600),
            },
        )
        for rank in range(2)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert (out / "turns").read_text() == "01"
    return [(np.load(out / f"{rank}.npz"), json.loads((out / f"{rank}.json").read_text())) for rank in range(2)]


def test_sums_are_over_all_workers_whatever_the_size(exchanged):
    for arrays, _ in exchanged:
        np.testing.assert_array_equal(arrays["sum"], [3, 20])
        expected = 3 * np.arange(1_500_000, dtype=np.float32).reshape(3, -1).astype(np.float64).sum(axis=1)
        np.testing.assert_allclose(arrays["large"], expected, rtol=1e-5)
        np.testing.assert_array_equal(arrays["gather"], [[[0, 5]], [[1, 5]]])


def test_a_gradient_is_summed_anew_each_time(exchanged):
    for arrays, _ in exchanged:
        np.testing.assert_array_equal(arrays["gradient"], np.full((2, 3), 6.0))  # (1 + 2) from each of both


def test_sums_that_are_not_waited_for_are_not_mixed_up(exchanged):
    for arrays, _ in exchanged:
        assert arrays["wrong"].tolist() == [0]


def test_arrays_on_a_device_are_gathered_in_the_order_of_workers(exchanged):
    for arrays, _ in exchanged:
        np.testing.assert_array_equal(arrays["rows"], [[0, 1], [2, 3], [10, 11], [12, 13]])


def test_worker_0_is_heard_by_all(exchanged):
    for arrays, texts in exchanged:
        np.testing.assert_array_equal(arrays["spread"], np.array([0.1, 0.0], np.float32))
        assert texts["share"] == {"é": [1, None, "x" * 3000]}


def test_a_number_is_summed_over_all_workers(exchanged):
    for _, texts in exchanged:
        assert texts["total"] == 2.0
    assert ALONE.all_reduce(0.5) == 0.5


def test_means_are_over_the_images_of_all_workers_and_all_stop_where_one_has_a_signal(exchanged):
    for _, texts in exchanged:
        assert texts["means"] == [{"loss": 1.0, "accuracy": 0.5}, False]  # losses of 0, 1 and 1, 2
        assert texts["signalled"][1] is True  # worker 1 has one


def test_workers_with_other_settings_or_weights_are_named(exchanged):
    (_, first), (_, second) = exchanged
    assert first["same"] is second["same"] is first["alike"] is second["alike"] is None
    assert second["other"].startswith(
        "SettingError: worker 1 was not given what worker 0 was (lr: 0.1 there, 1.1 here)"
    )
    assert first["other"].startswith("ClusterError: worker 1 was not given what worker 0 was")
    for text in (first["unlike"], second["unlike"]):
        assert text.startswith("TrainingError: the weights of worker 1 differ from worker 0's")


def test_one_worker_alone_exchanges_nothing():
    array, rows = np.ones(3), mx.nd.ones((4, 2))
    assert join() is ALONE
    assert ALONE.all_reduce(array) is array
    assert ALONE.all_reduce_async("rows", rows) is ALONE.all_gather_async("rows", rows) is rows
    assert ALONE.broadcast_object("x") == "x"
    np.testing.assert_array_equal(ALONE.all_gather(array), [array])


def test_a_part_of_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("VARGFACENET_RANK", "1")
    with pytest.raises(ClusterError, match="start them by 'vargfacenet launch'"):
        join()


def test_a_batch_must_divide_among_the_devices_of_all_workers():
    check_devices(8, 2, workers=4)
    with pytest.raises(SettingError, match=r"multiple of the number of devices \(6, 2 in each of 3 workers\)"):
        check_devices(8, 2, workers=3)


def launched(face_folder, out, port, **settings):
    """Two workers that train a tiny network, started."""
    values = {**TINY, **settings}
    words = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in values.items()
    ]
    train = ["train", "demo_student_scratch", "--data", str(face_folder), "--out", str(out), "--set", *words]
    launch = ["launch", "--local", "2", "--port", str(port), "--servers", "1", "--timeout", "600", "--", *train]
    command = [sys.executable, "-m", "vargfacenet", *launch]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory, face_folder):
    """The folder of a run of one process on two devices that nobody stopped."""
    out = tmp_path_factory.mktemp("long") / "devices"
    train(tiny(**LONG), data=face_folder, out=out, runtime=Runtime(BOTH))
    return out


def wait_for_start(group, out):
    limit = time.monotonic() + 600
    while not TrainingStates(out).updates():
        assert time.monotonic() < limit
        assert group.poll() is None, group.communicate()[0]
        time.sleep(0.01)


def worker_pid(rank, port):
    """The process of a worker of the group whose scheduler is at port + 1."""
    wanted = {f"VARGFACENET_RANK={rank}", f"DMLC_PS_ROOT_PORT={port + 1}", "DMLC_ROLE=worker"}
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            found = set(path.read_bytes().decode(errors="replace").split("\0"))
        except OSError:
            continue
        if wanted <= found:
            return int(path.parent.name)
    raise AssertionError("no such worker")


def sums_are_alike():
    """False with basic operators: oneDNN's sums depend on the number of threads, of which each of two workers has half."""
    return choose_backend() == "native"


def assert_alike(first, second):
    if not sums_are_alike():
        return
    for name, value in parameters(first).items():
        np.testing.assert_allclose(value, parameters(second)[name], rtol=1e-4, atol=1e-5, err_msg=name)


def assert_same_classifier(first, second, rtol):
    """Compare the classifiers in the newest states of two folders, with their momentum."""
    states = [{key: value for key, value in newest_state(out).items() if ":fc7" in key} for out in (first, second)]
    assert states[0].keys() == states[1].keys() != set()
    for key, value in states[0].items():
        other = states[1][key].asnumpy()
        np.testing.assert_allclose(value.asnumpy(), other, rtol=rtol, atol=rtol / 10, err_msg=key)


def test_two_workers_train_as_two_devices_of_one_process_do(face_folder, tmp_path):
    """With a classifier in shards, over two generations; the next tests have the one in the graph."""
    head = {"head": "sharded", "sample_rate": 0.5, "generations": 2, "classifier": "keep"}
    settings = {"max_updates": 4, "save_every": 2, **head}
    group = launched(face_folder, tmp_path / "workers", free_ports(), **settings)
    printed, _ = group.communicate(timeout=600)
    assert group.returncode == 0, printed
    train(tiny(**settings), data=face_folder, out=tmp_path / "devices", runtime=Runtime(BOTH))
    assert_alike(tmp_path / "workers", tmp_path / "devices")
    ours, its = (tmp_path / name / "generation-2" for name in ("workers", "devices"))
    assert [line["update"] for line in read_log(ours)] == [2, 4]
    if sums_are_alike():
        losses = [[line["loss"] for line in read_log(out)] for out in (ours, its)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        assert_same_classifier(ours, its, 1e-4)


def test_a_killed_worker_stops_the_others_and_one_process_goes_on_where_they_were(face_folder, long_run, tmp_path):
    out, port = tmp_path / "workers", free_ports()
    group = launched(face_folder, out, port, **LONG)
    wait_for_start(group, out)
    os.kill(worker_pid(1, port), signal.SIGKILL)
    printed, _ = group.communicate(timeout=600)
    assert group.returncode == 2
    assert printed.splitlines()[-1] == "vargfacenet launch: error: worker 1 was killed (SIGKILL)"

    resumed = train(tiny(**LONG), data=face_folder, out=out, runtime=Runtime(BOTH), resume=Resume())
    assert 0 < resumed.updates < 30
    assert_alike(out, long_run)


def test_a_group_that_is_asked_to_stop_saves_and_one_process_goes_on(face_folder, long_run, tmp_path):
    """Up to there the two workers have trained as two devices of one process do."""
    out = tmp_path / "workers"
    group = launched(face_folder, out, free_ports(), **LONG)
    wait_for_start(group, out)
    group.send_signal(signal.SIGINT)
    printed, _ = group.communicate(timeout=600)
    assert group.returncode == 130, printed
    assert printed.splitlines()[-1] == "vargfacenet launch: stopped by SIGINT"
    stop = next(line for line in printed.splitlines() if "stopped by SIGTERM after update" in line)
    done = int(stop.partition("after update ")[2].split()[0])
    assert TrainingStates(out).newest().update == done
    by_workers = read_log(out)
    assert by_workers[-1]["update"] == done - done % 2
    resumed = train(tiny(**LONG), data=face_folder, out=out, runtime=Runtime(BOTH), resume=Resume())
    assert resumed.updates == 30 - done
    assert_alike(out, long_run)
    if sums_are_alike():
        expected = [line["loss"] for line in read_log(long_run)[: len(by_workers)]]
        np.testing.assert_allclose([line["loss"] for line in by_workers], expected, rtol=1e-3)
        assert_same_classifier(out, long_run, 1e-3)
