"""A run over a damaged set: it ends, says how many images were bad, and is taken up to the same parameters."""

import shutil

import numpy as np
import pytest

from tests.helpers.record_sets import offsets, overwrite
from tests.helpers.training import parameters, stopped_after, tiny
from vargfacenet.data import RecordSet
from vargfacenet.errors import DataError, SettingError
from vargfacenet.train.cache import write_embeddings
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume
from vargfacenet.train.run_log import read_log


@pytest.fixture
def damaged(face_folder, tmp_path):
    folder = shutil.copytree(face_folder, tmp_path / "damaged")
    overwrite(folder, offsets(folder)[5] + 100, b"damage")
    return folder


def test_a_run_over_a_bad_image_ends_says_so_and_is_taken_up_alike(damaged, tmp_path):
    config = tiny(max_bad_share=0.1)
    train(config, data=damaged, out=tmp_path / "whole")
    lines = read_log(tmp_path / "whole")
    assert lines[-1]["bad_images"] == 1
    with stopped_after(5):
        train(config, data=damaged, out=tmp_path / "stopped")
    # The share may change: no batch depends on it.
    train(tiny(max_bad_share=0.2), data=damaged, out=tmp_path / "stopped", resume=Resume())
    whole, stopped = parameters(tmp_path / "whole"), parameters(tmp_path / "stopped")
    for name, value in whole.items():
        np.testing.assert_array_equal(stopped[name], value)


def test_a_run_stops_at_the_default_share(damaged, tmp_path):
    with pytest.raises(DataError, match="1 of 24 images are bad, and max_bad_share=0.001 allows 0"):
        train(tiny(), data=damaged, out=tmp_path / "out")


def test_a_share_out_of_range_is_refused():
    with pytest.raises(SettingError, match="max_bad_share=2.0: expected between 0 and 1"):
        tiny(max_bad_share=2)


def test_a_teacher_passes_over_what_training_will(damaged, tmp_path, teacher, monkeypatch):
    monkeypatch.setattr("vargfacenet.train.cache.Config.max_bad_share", 0.05)
    path = write_embeddings(teacher, RecordSet(damaged), tmp_path / "cache")
    rows = np.load(path).astype(float)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=1e-3)
    np.testing.assert_array_equal(rows[4][0], rows[4][1])  # of an image that is its own mirror: an empty one
    assert np.abs(rows[3][0] - rows[3][1]).max() > 0
