"""Copies of a training set that tests may damage."""

import pathlib
import shutil

import pytest

from tests.helpers.record_sets import offsets, overwrite


@pytest.fixture
def checksummed(face_folder, tmp_path):
    """A copy of the training set that a test may damage."""
    return pathlib.Path(shutil.copytree(face_folder, tmp_path / "checksummed"))


@pytest.fixture
def copy(checksummed):
    """The same without checksums, as other packers write sets."""
    for offset in offsets(checksummed).values():
        overwrite(checksummed, offset + 24, bytes(8))
    return checksummed
