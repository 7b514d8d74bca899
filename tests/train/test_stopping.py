"""Signals: the first lets a run save and end, the second ends it at once."""

import os
import signal
import subprocess
import sys
import time

import mxnet as mx
import pytest

from tests.helpers.training import before_each_step, newest_state, tiny
from vargfacenet.commands import main
from vargfacenet.errors import Stopped
from vargfacenet.operators import forms
from vargfacenet.train import stopping
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.stopping import Stopping
from vargfacenet.train.training_state import TrainingStates

DROPOUT = {"network": "resnet18", "units": (1, 1, 1, 1), "use_se": None, "save_every": 4}

ONE = [mx.cpu(0)]


def sent_at(monkeypatch, update, number=signal.SIGTERM):
    """Whatever trains is sent a signal as it makes an update; the thread that hears it is waited for."""
    enter, entered = Stopping.__enter__, []

    def entering(self):
        entered.append(self)
        return enter(self)

    def send(trainer, batch):
        trainer.seen = getattr(trainer, "seen", 0) + 1
        if trainer.seen == update:
            os.kill(os.getpid(), number)
            limit = time.monotonic() + 600
            while entered[-1].signal is None:
                assert time.monotonic() < limit
                time.sleep(0.01)

    monkeypatch.setattr(Stopping, "__enter__", entering)
    before_each_step(monkeypatch, send)


def stopped(monkeypatch, update, config, *, devices=ONE, number=signal.SIGTERM, **options):
    with monkeypatch.context() as patch:
        sent_at(patch, update, number)
        with pytest.raises(Stopped) as caught:
            train(config, runtime=Runtime(devices, stopping=Stopping()), **options)
    return caught.value


def bytes_of(out):
    return {name: value.asnumpy().tobytes() for name, value in newest_state(out).items()}


@pytest.mark.parametrize(("network", "moments"), [({}, [1, 2, 1]), (DROPOUT, [3, 2])])
def test_a_run_stopped_between_saves_again_and_again_ends_bit_for_bit_as_the_unbroken_one(
    face_folder, tmp_path, monkeypatch, network, moments
):
    """Pass over the set, and saves, are of other lengths than what lies between the stops."""
    config = tiny(**{"save_every": 4, **network})
    assert ("Dropout" in config.build_symbol().tojson()) == bool(network)
    train(config, data=face_folder, out=tmp_path / "whole")
    done = 0
    for after in moments:
        # A signal is heard before the update that it came in is over, and that one is still made.
        stop = stopped(
            monkeypatch, after, config, data=face_folder, out=tmp_path / "broken", resume=Resume() if done > 0 else None
        )
        done = TrainingStates(tmp_path / "broken").newest().update
        assert f"stopped by SIGTERM after update {done} of 6" in str(stop)
        assert stop.status == 143
    assert 0 < done < 6
    train(config, data=face_folder, out=tmp_path / "broken", resume=Resume())
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "broken")


def test_on_two_devices_to_the_noise_of_float32(face_folder, tmp_path, monkeypatch):
    config, devices = tiny(**DROPOUT), [mx.cpu(0), mx.cpu(1)]
    train(config, data=face_folder, out=tmp_path / "whole", runtime=Runtime(devices))
    stopped(monkeypatch, 3, config, devices=devices, data=face_folder, out=tmp_path / "broken")
    train(config, data=face_folder, out=tmp_path / "broken", runtime=Runtime(devices), resume=Resume())
    whole, broken = newest_state(tmp_path / "whole"), newest_state(tmp_path / "broken")
    for name, value in whole.items():
        assert abs(value - broken[name]).max().asscalar() <= 1e-5 * max(1.0, abs(value).max().asscalar()), name


def test_the_command_ends_with_the_signals_status(face_folder, tmp_path, monkeypatch, capsys):
    sent_at(monkeypatch, 2, signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)  # that of whoever runs the tests may be SIG_IGN
    settings = ["multiplier=0.25", "units=1,1,1", "use_se=false", "embedding_size=16", "batch_size=8", "max_updates=6"]
    command = ["train", "demo_student_scratch", "--data", str(face_folder), "--out", str(tmp_path), "--set", *settings]
    assert main(command) == 130
    assert "vargfacenet train: stopped by SIGINT after update" in capsys.readouterr().err.splitlines()[-1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_ends_a_process_that_is_deep_in_a_call():
    """A C function in a loop that catches nothing stands for a call of MXNet's that gives no control back."""
    script = (
        "import ctypes, logging, runpy, sys\n"
        f"Stopping = runpy.run_path({stopping.__file__!r})['Stopping']\n"  # without importing MXNet
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
        "with Stopping():\n"
        "    print('ready', flush=True)\n"
        "    libc = ctypes.CDLL(None)\n"
        "    while True: libc.usleep(900000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert b"SIGTERM: stopping after this update" in process.stdout.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=600) == 143


def test_force_without_resume_is_refused(capsys):
    assert main(["train", "demo_teacher", "--force"]) == 2
    assert "--force goes with --resume" in capsys.readouterr().err


def test_a_run_resumed_with_another_number_of_threads_says_so(face_folder, tmp_path, monkeypatch, caplog):
    config = tiny(save_every=4)
    stopped(monkeypatch, 2, config, data=face_folder, out=tmp_path)
    now = TrainingStates(tmp_path).newest().facts["threads"]
    assert now >= 1
    train(config, data=face_folder, out=tmp_path, resume=Resume())
    assert "CPU threads" not in caplog.text
    other = tmp_path / "other"
    with monkeypatch.context() as patch:
        patch.setattr("vargfacenet.train.generation.threads_in_use", lambda: now + 1)
        stopped(monkeypatch, 2, config, data=face_folder, out=other)
    train(config, data=face_folder, out=other, resume=Resume())
    assert f"was trained with {now + 1} CPU threads and continues with {now}" in caplog.text
    assert f"set OMP_NUM_THREADS={now + 1}" in caplog.text


@pytest.mark.usefixtures("native")
def test_a_resumed_run_keeps_the_forms_of_its_convolutions_also_in_later_generations(
    face_folder, tmp_path, monkeypatch
):
    config, generations = tiny(max_updates=3, generations=2), [tmp_path / f"generation-{n}" for n in (1, 2)]
    with monkeypatch.context() as patch:
        patch.setenv(forms.VARIABLE, "mxnet")
        stopped(monkeypatch, 2, config, data=face_folder, out=tmp_path)
    saved = TrainingStates(generations[0]).newest().facts["convolutions"]
    assert saved
    assert set(saved.values()) == {"mxnet"}
    with monkeypatch.context() as patch:
        patch.setenv(forms.VARIABLE, "measured")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        patch.setattr(forms, "time_forms", lambda shape: {"native": 1.0, "mxnet": 2.0})
        train(config, data=face_folder, out=tmp_path, resume=Resume())
    for generation in generations:
        assert TrainingStates(generation).newest().facts["convolutions"] == saved
