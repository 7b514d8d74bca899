"""Search of verification sets by file, folder and name."""

import pytest

from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.sets import find_sets


@pytest.fixture
def folder(tmp_path):
    for name in ("zoo", "agedb_30", "lfw", "cfp_fp"):
        (tmp_path / f"{name}.bin").touch()
    return tmp_path


def test_a_folder_stands_for_its_sets_known_ones_first(folder):
    assert [path.stem for path in find_sets([folder])] == ["lfw", "cfp_fp", "agedb_30", "zoo"]


@pytest.mark.parametrize("name", ["cfp_fp", "CFP-FP"])
def test_a_name_is_searched_for_in_the_folder(folder, name):
    assert find_sets([name], folder) == [folder / "cfp_fp.bin"]


def test_files_stay_in_their_order_also_missing_ones(folder):
    given = [folder / "zoo.bin", "elsewhere/none.bin", folder / "lfw.bin"]
    assert list(map(str, find_sets(given))) == list(map(str, given))


def test_an_unknown_name_is_refused_with_the_most_similar_one(folder, tmp_path_factory):
    with pytest.raises(SettingError, match="'agedb': did you mean 'agedb_30'"):
        find_sets(["agedb"], folder)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="holds no \\*.bin; give a file, or --folder DIR"):
        find_sets(["lfw"], empty)
    with pytest.raises(DataError, match="holds no verification set"):
        find_sets([empty])
