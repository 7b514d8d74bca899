"""Copies of a training set that tests may damage."""

import pathlib
import shutil

import pytest

from tests.helpers.record_sets import offsets, overwrite


@pytest.fixture
def sealed(face_folder, tmp_path):
    """A copy of the set that a test may damage."""
    return pathlib.Path(shutil.copytree(face_folder, tmp_path / "sealed"))


@pytest.fixture
def copy(sealed):
    """The same without checksums, as others write sets."""
    for offset in offsets(sealed).values():
        overwrite(sealed, offset + 24, bytes(8))
    return sealed
