"""Stored embeddings: what they are of, and what is never taken for them."""

import json
import os

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from vargfacenet.data import RecordSet
from vargfacenet.data.writer import write_records
from vargfacenet.errors import DataError
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train.cache import open_embeddings, write_embeddings
from vargfacenet.train.teacher import Teacher


def test_what_is_cached_is_float16_and_not_computed_twice(cache, teacher, face_folder, monkeypatch):
    (path,) = cache.glob("*.npy")
    array = np.load(path, mmap_mode="r")
    assert (array.dtype, array.shape) == (np.float16, (24, 2, 16))
    np.testing.assert_allclose(np.linalg.norm(array.astype(float), axis=2), 1, atol=1e-3)
    monkeypatch.setattr("vargfacenet.train.teacher.make_embedder", None)  # whoever embeds now fails
    assert write_embeddings(teacher, RecordSet(face_folder), cache) == path


def copy_of(face_folder, folder):
    folder.mkdir()
    for name in ("train.rec", "train.idx", "property"):
        (folder / name).write_bytes((face_folder / name).read_bytes())
    return folder


def test_a_cache_of_another_record_file_is_refused(tmp_path, teacher, cache, face_folder):
    write_records(tmp_path / "other", ((n, encode_jpeg(image(n, 9))) for n in range(4)))
    with pytest.raises(
        DataError, match=r"holds embeddings of .*train.rec, not of .*other/train.rec; run: vargfacenet teach"
    ):
        open_embeddings(teacher, RecordSet(tmp_path / "other"), cache)


def test_a_record_file_that_changed_makes_its_cache_stale(tmp_path, teacher, face_folder):
    folder = copy_of(face_folder, tmp_path / "set")
    write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")
    content = bytearray((folder / "train.rec").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "train.rec").write_bytes(content)
    with pytest.raises(DataError, match="cache is stale: .*train.rec has changed"):
        open_embeddings(teacher, RecordSet(folder), tmp_path / "cache")


def test_a_set_that_only_moved_keeps_its_cache(tmp_path, teacher, cache, face_folder):
    moved = copy_of(face_folder, tmp_path / "elsewhere")
    assert len(open_embeddings(teacher, RecordSet(moved), cache)) == 24


def test_the_cache_of_a_teacher_that_changed_is_stale(tmp_path, cache, face_folder):
    other = Teacher(save_random_checkpoint(tmp_path / "other", "resnet18", seed=1, multiplier=0.25, embedding_size=16))
    with pytest.raises(
        DataError, match=r"is stale: its embeddings are of .*model-0000 .* the teacher .*other-0000 has"
    ):
        open_embeddings(other, RecordSet(face_folder), cache)
    with pytest.raises(DataError, match="is stale"):
        write_embeddings(other, RecordSet(face_folder), cache)


def test_a_folder_without_a_cache_names_the_command(tmp_path, teacher, face_folder):
    with pytest.raises(DataError, match=f"holds no embeddings of a teacher; run: vargfacenet teach {teacher.prefix}"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)


def test_an_interrupted_cache_is_gone_on_with(tmp_path, teacher, cache, face_folder):
    done = []

    def stop_after_ten(count):
        done.append(count)
        if sum(done) >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(teacher, RecordSet(face_folder), tmp_path, batch_size=5, progress=stop_after_ten)
    with pytest.raises(DataError, match="holds embeddings of only a part of .*train.rec; to continue, run"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)
    (part,) = tmp_path.glob("*.part")
    with open(part, "ab") as file:
        file.write(b"half a row")
    again = []
    path = write_embeddings(teacher, RecordSet(face_folder), tmp_path, batch_size=5, progress=again.append)
    assert again == [10, 5, 5, 4]
    (whole,) = cache.glob("*.npy")
    np.testing.assert_allclose(np.load(path), np.load(whole), atol=1e-3)
    assert not part.exists()


def test_a_teacher_whose_embeddings_are_not_finite_is_refused(tmp_path, face_folder):
    prefix = save_random_checkpoint(tmp_path / "model", "resnet18", multiplier=0.25, embedding_size=16)
    saved = mx.nd.load(f"{prefix}-0000.params")
    saved["arg:pre_fc1_bias"][:] = np.nan
    mx.nd.save(f"{prefix}-0000.params", saved)
    with pytest.raises(DataError, match="gives embeddings that are not finite"):
        write_embeddings(Teacher(prefix), RecordSet(face_folder), tmp_path / "cache")


def test_images_of_another_size_are_not_embedded(tmp_path, teacher, face_folder):
    folder = copy_of(face_folder, tmp_path / "set")
    (folder / "property").write_text("4,96,112")
    with pytest.raises(DataError, match="holds 96x112 images, networks here take 112x112"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")


def test_a_folder_with_a_teacher_but_no_cache_says_so(tmp_path, teacher, cache, face_folder):
    (tmp_path / "teacher.json").write_bytes((cache / "teacher.json").read_bytes())
    with pytest.raises(DataError, match="holds embeddings of no record file, not of"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "shape", "bit", "about"])
def test_a_damaged_cache_is_refused_and_computed_again(tmp_path, teacher, face_folder, damage, caplog):
    path = write_embeddings(teacher, RecordSet(face_folder), tmp_path)
    if damage == "cut":
        os.truncate(path, 200)
    elif damage == "bit":
        content = bytearray(path.read_bytes())
        content[-7] ^= 1
        path.write_bytes(content)
    elif damage == "shape":
        np.save(path, np.zeros((23, 2, 16), np.float16))
    else:
        (tmp_path / "teacher.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="delete"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)
    if damage == "about":
        with pytest.raises(DataError, match="delete"):
            write_embeddings(teacher, RecordSet(face_folder), tmp_path)
    else:
        write_embeddings(teacher, RecordSet(face_folder), tmp_path)
        assert "the embeddings are computed again" in caplog.text
        assert open_embeddings(teacher, RecordSet(face_folder), tmp_path).shape == (24, 2, 16)


def test_a_bad_image_leaves_no_half_cache(tmp_path, teacher, face_folder):
    faces = [(0, encode_jpeg(image(0, 0))), (1, encode_jpeg(image(0, 0)[:100]))]
    folder = tmp_path / "bad"
    write_records(folder, faces)
    (folder / "property").write_text("2,112,112")
    with pytest.raises(DataError, match="train.rec: record 2"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
