"""What importing the package sets in the environment."""

import os

import pytest

from vargfacenet.environment import prepare_environment


@pytest.mark.parametrize(
    ("variable", "value", "users"),
    [
        ("ORT_DISABLE_TELEMETRY", "1", "0"),
        ("OPENBLAS_THREAD_TIMEOUT", "10", "20"),
        ("MXNET_CPU_PARALLEL_SIZE", "2147483647", "9"),
    ],
)
def test_variables_that_libraries_read_at_their_import_are_set_unless_the_user_has(variable, value, users, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    prepare_environment()
    assert os.environ[variable] == value
    monkeypatch.setenv(variable, users)
    prepare_environment()
    assert os.environ[variable] == users
