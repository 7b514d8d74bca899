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
