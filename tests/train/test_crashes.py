"""A training killed with SIGKILL again and again ends as the unbroken one."""

import pytest

from tests.train.crash import config, count_different, crash
from vargfacenet.train.run import train


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_byte_for_byte_as_the_unbroken_one(
    face_folder, pairs_file, tmp_path, kills
):
    settings = {"max_updates": 24} if kills < 10 else {}
    train(config(**settings), data=face_folder, out=tmp_path / "whole", bins=[pairs_file])
    result = crash(tmp_path, face_folder, pairs_file, kills, settings=settings)
    assert result["kills"] == kills
    assert count_different(tmp_path, result["runs"]) == 0
