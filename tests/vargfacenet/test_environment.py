"""What importing the package sets in the environment."""

import os

from vargfacenet.environment import prepare_environment


def test_the_telemetry_of_onnxruntime_is_off_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    prepare_environment()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    prepare_environment()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_threads_of_openblas_sleep_after_their_work_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    prepare_environment()
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "10"
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "20")
    prepare_environment()
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "20"
