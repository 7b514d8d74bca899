"""What importing the package sets in the environment."""

import os

import pytest

from vargfacenet.environment import prepare_environment


@pytest.mark.parametrize(
    ("variable", "value", "users"), [("ORT_DISABLE_TELEMETRY", "1", "0"), ("OPENBLAS_THREAD_TIMEOUT", "10", "20")]
)
def test_telemetry_is_off_and_threads_of_openblas_sleep_unless_the_user_says_otherwise(
    variable, value, users, monkeypatch
):
    monkeypatch.delenv(variable, raising=False)
    prepare_environment()
    assert os.environ[variable] == value
    monkeypatch.setenv(variable, users)
    prepare_environment()
    assert os.environ[variable] == users
