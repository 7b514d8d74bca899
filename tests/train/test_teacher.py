"""Teachers, online and cached: the same embeddings, and never anything but a teacher."""

import json
import os

import mxnet as mx
import numpy as np
import pytest

from tests.conftest import picture
from tests.train.tiny import save_random_checkpoint, tiny
from vargfacenet.checkpoint import load_checkpoint
from vargfacenet.data import Augmentation, FaceIterator, JoinedSets, RecordSet
from vargfacenet.data.writer import write_records
from vargfacenet.errors import CheckpointError, DataError, SettingError
from vargfacenet.eval import Embedder, read_sets
from vargfacenet.files import fingerprint
from vargfacenet.pictures import encode_jpeg
from vargfacenet.train.cache import open_embeddings, write_embeddings
from vargfacenet.train.generation import read_log
from vargfacenet.train.run import train
from vargfacenet.train.teacher import CachedTeacher, OnlineTeacher, Teacher, teacher_scores


@pytest.fixture(scope="module")
def cache(tmp_path_factory, teacher, face_folder):
    folder = tmp_path_factory.mktemp("cache") / "embeddings"
    write_embeddings(teacher, RecordSet(face_folder), folder)
    return folder


def first_batch(records, **augment):
    iterator = FaceIterator(records, batch_size=12, seed=3, augment=Augmentation(**augment))
    batch = iterator.next()
    iterator.close()
    return batch


def cosines(found, expected):
    found, expected = found.asnumpy().astype(float), expected.astype(float)
    return (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


@pytest.mark.parametrize("mirror", [False, True])
def test_online_and_cached_give_the_embeddings_of_the_checkpoint(teacher, cache, face_folder, mirror):
    records = JoinedSets([face_folder])
    batch = first_batch(records)
    assert 0 < batch.mirrored.sum() < 12
    pictures = batch.data[0].asnumpy()
    embedder = Embedder(*teacher.checkpoint, batch_size=12)
    expected = embedder.embed_batch(pictures)
    if mirror:
        other = embedder.embed_batch(np.ascontiguousarray(pictures[:, :, :, ::-1]))
        expected = expected / np.linalg.norm(expected, axis=1)[:, None] + other / np.linalg.norm(other, axis=1)[:, None]
    online = OnlineTeacher(teacher, batch_size=12, devices=[mx.cpu()], mirror=mirror)
    arrays = [open_embeddings(teacher, records.sets[0], cache)]
    for source in (online, CachedTeacher(arrays, records, mirror=mirror)):
        found = source.directions(batch)
        assert found.shape == (12, 16)
        assert found.dtype == np.float32
        np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-6)


def test_the_teacher_is_in_inference_mode_and_stays_as_it_is(teacher, face_folder):
    """Dropout and batch statistics would make an embedding depend on chance and on the rest of the batch."""
    assert "Dropout" in teacher.checkpoint.symbol.tojson()
    online = OnlineTeacher(teacher, batch_size=4, devices=[mx.cpu()])
    pictures = first_batch(JoinedSets([face_folder])).data[0]
    with mx.autograd.record():  # which puts MXNet into training mode
        found = [online.directions(mx.io.DataBatch([rows])).asnumpy() for rows in (pictures[:4], pictures[:4])]
        others = online.directions(mx.io.DataBatch([mx.nd.concat(pictures[:1], pictures[6:9], dim=0)])).asnumpy()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(others[0], found[0][0], atol=1e-3)
    for now, before in zip(online._module.get_params(), teacher.checkpoint[1:]):
        for name, value in before.items():
            np.testing.assert_array_equal(now[name].asnumpy(), value.asnumpy(), err_msg=name)


def test_two_devices_embed_as_one_does(teacher, face_folder):
    batch = first_batch(JoinedSets([face_folder]))
    one, two = (
        OnlineTeacher(teacher, batch_size=12, devices=devices).directions(batch).asnumpy()
        for devices in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)])
    )
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_student_has_the_same_losses_online_and_cached(tmp_path, teacher, face_folder):
    """Embeddings are made in batches of one size: the last digits depend on it, and each update multiplies them."""
    arrays = {**teacher.checkpoint.args, **teacher.checkpoint.auxs}
    before = {name: value.asnumpy().copy() for name, value in arrays.items()}
    write_embeddings(teacher, RecordSet(face_folder), tmp_path / "cache", batch_size=8)
    config = tiny("demo_student", generations=1, log_every=1, max_updates=20, color_jitter=0)
    train(config, data=face_folder, out=tmp_path / "online", teacher=teacher)
    train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher, cache=tmp_path / "cache")
    online, cached = read_log(tmp_path / "online"), read_log(tmp_path / "cached")
    assert len({line["distillation_loss"] for line in online}) == 20
    for one, other in zip(online, cached):
        for name in ("loss", "distillation_loss", "cosine"):
            assert one[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5)
    for name, value in arrays.items():
        np.testing.assert_array_equal(value.asnumpy(), before[name], err_msg=name)
    learned_from = [
        json.loads((tmp_path / name / "data.json").read_text())["learned from"] for name in ("online", "cached")
    ]
    assert learned_from == [f"{teacher}, online", f"{teacher}, embeddings in {tmp_path / 'cache'}"]


def test_another_batch_size_of_the_teacher_leaves_the_losses_of_the_same_parameters(tmp_path, face_folder):
    teacher = Teacher(save_random_checkpoint(tmp_path / "model", "resnet18", multiplier=0.25, embedding_size=128))
    write_embeddings(teacher, RecordSet(face_folder), tmp_path / "cache", batch_size=5)
    config = tiny("small_student", log_every=1, color_jitter=0, shift=0, lr=0, embedding_size=None)
    train(config, data=face_folder, out=tmp_path / "online", teacher=teacher)
    train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher, cache=tmp_path / "cache")
    for one, other in zip(read_log(tmp_path / "online"), read_log(tmp_path / "cached")):
        assert one["distillation_loss"] == pytest.approx(other["distillation_loss"], abs=1e-5)


def test_two_sets_are_cached_side_by_side(tmp_path, teacher, face_folder):
    write_records(tmp_path / "more", ((n, encode_jpeg(picture(n + 20, 0))) for n in range(3)))
    for folder in (face_folder, tmp_path / "more"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")
    joined = JoinedSets([tmp_path / "more", face_folder])
    batch = first_batch(joined)
    assert batch.index.min() < 3 <= batch.index.max()
    arrays = [open_embeddings(teacher, one, tmp_path / "cache") for one in joined.sets]
    found = CachedTeacher(arrays, joined).directions(batch)
    expected = Embedder(*teacher.checkpoint, batch_size=12).embed_batch(batch.data[0].asnumpy())
    np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-6)


def test_what_is_cached_is_float16_and_not_computed_twice(cache, teacher, face_folder, monkeypatch):
    (path,) = cache.glob("*.npy")
    array = np.load(path, mmap_mode="r")
    assert (array.dtype, array.shape) == (np.float16, (24, 2, 16))
    np.testing.assert_allclose(np.linalg.norm(array.astype(float), axis=2), 1, atol=1e-3)
    monkeypatch.setattr("vargfacenet.train.cache.Embedder", None)  # whoever embeds now fails
    assert write_embeddings(teacher, RecordSet(face_folder), cache) == path


def copy_of(face_folder, folder):
    folder.mkdir()
    for name in ("train.rec", "train.idx", "property"):
        (folder / name).write_bytes((face_folder / name).read_bytes())
    return folder


def test_a_cache_of_another_record_file_is_refused(tmp_path, teacher, cache, face_folder):
    write_records(tmp_path / "other", ((n, encode_jpeg(picture(n, 9))) for n in range(4)))
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
    with pytest.raises(DataError, match="holds embeddings of a part of .*train.rec only; to go on, run"):
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


def test_two_processes_do_not_write_one_cache(tmp_path, teacher, face_folder):
    def meanwhile(count):
        with pytest.raises(DataError, match="another process is writing"):
            write_embeddings(teacher, RecordSet(face_folder), tmp_path)

    write_embeddings(teacher, RecordSet(face_folder), tmp_path, progress=meanwhile)


def test_a_teacher_whose_embeddings_are_not_finite_is_refused(tmp_path, face_folder):
    prefix = save_random_checkpoint(tmp_path / "model", "resnet18", multiplier=0.25, embedding_size=16)
    saved = mx.nd.load(f"{prefix}-0000.params")
    saved["arg:pre_fc1_bias"][:] = np.nan
    mx.nd.save(f"{prefix}-0000.params", saved)
    with pytest.raises(DataError, match="gives embeddings that are not finite"):
        write_embeddings(Teacher(prefix), RecordSet(face_folder), tmp_path / "cache")


def test_pictures_of_another_size_are_not_embedded(tmp_path, teacher, face_folder):
    folder = copy_of(face_folder, tmp_path / "set")
    (folder / "property").write_text("4,96,112")
    with pytest.raises(DataError, match="holds 96x112 pictures, networks here take 112x112"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")


def test_scores_of_a_teacher_are_kept_by_what_they_are_of(tmp_path, teacher, pairs_file, pairs_set, monkeypatch):
    pairs, prints = read_sets([pairs_file]), {"stripes": fingerprint([pairs_file])}
    scores = teacher_scores(teacher, pairs, prints, tmp_path)
    monkeypatch.setattr("vargfacenet.train.teacher.Embedder", None)  # whoever embeds now fails
    assert teacher_scores(teacher, pairs, prints, tmp_path) == scores
    with pytest.raises(TypeError):
        teacher_scores(teacher, pairs, {"stripes": "another set of that name"}, tmp_path)
    (tmp_path / "teacher-verification.json").write_text("[]")
    with pytest.raises(DataError, match="teacher-verification.json is damaged; delete it"):
        teacher_scores(teacher, pairs, prints, tmp_path)


def test_a_folder_with_a_teacher_but_no_cache_says_so(tmp_path, teacher, cache, face_folder):
    (tmp_path / "teacher.json").write_bytes((cache / "teacher.json").read_bytes())
    with pytest.raises(DataError, match="holds embeddings of no record file, not of"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "shape", "about"])
def test_a_damaged_cache_is_refused(tmp_path, teacher, face_folder, damage):
    path = write_embeddings(teacher, RecordSet(face_folder), tmp_path)
    if damage == "cut":
        os.truncate(path, 200)
    elif damage == "shape":
        np.save(path, np.zeros((23, 2, 16), np.float16))
    else:
        (tmp_path / "teacher.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="delete"):
        open_embeddings(teacher, RecordSet(face_folder), tmp_path)
    with pytest.raises(DataError, match="delete"):
        write_embeddings(teacher, RecordSet(face_folder), tmp_path)


def test_a_bad_picture_leaves_no_half_cache(tmp_path, teacher, face_folder):
    faces = [(0, encode_jpeg(picture(0, 0))), (1, encode_jpeg(picture(0, 0)[:100]))]
    folder = tmp_path / "bad"
    write_records(folder, faces)
    (folder / "property").write_text("2,112,112")
    with pytest.raises(DataError, match="train.rec: record 2"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_teacher_of_another_embedding_size_is_refused_with_the_remedy(tmp_path, teacher, face_folder):
    config = tiny("demo_student", embedding_size=32)
    message = "gives embeddings of 16 numbers, the student of 32: give --set embedding_size=16"
    with pytest.raises(SettingError, match=message):
        train(config, data=face_folder, out=tmp_path / "out", teacher=teacher)
    assert not (tmp_path / "out").exists()


def test_an_embedding_size_left_open_is_the_teachers(tmp_path, teacher, face_folder):
    config = tiny("small_student", embedding_size=None, max_updates=2)
    train(config, data=face_folder, out=tmp_path / "out", teacher=teacher)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["embedding_size"] == 16
    assert load_checkpoint(tmp_path / "out" / "latest", 0).args["pre_fc1_weight"].shape[0] == 16


def test_a_teacher_with_missing_parameters_is_refused(tmp_path, teacher_prefix):
    saved = mx.nd.load(f"{teacher_prefix}-0000.params")
    del saved["arg:conv0_weight"], saved["aux:bn0_moving_mean"]
    mx.nd.save(str(tmp_path / "model-0000.params"), saved)
    (tmp_path / "model-symbol.json").write_bytes(teacher_prefix.with_name("model-symbol.json").read_bytes())
    with pytest.raises(CheckpointError, match="lacks 2 parameter.* conv0_weight, bn0_moving_mean"):
        Teacher(tmp_path / "model")


def test_distillation_without_a_teacher_says_what_to_give(tmp_path, face_folder):
    with pytest.raises(SettingError, match="distillation=angular needs a teacher: give --teacher PREFIX"):
        train(tiny("demo_student"), data=face_folder, out=tmp_path / "out")


def test_a_teacher_with_nothing_to_teach_is_refused(tmp_path, teacher, face_folder):
    with pytest.raises(SettingError, match="has nothing to teach: these settings do not distil"):
        train(tiny(), data=face_folder, out=tmp_path / "out", teacher=teacher)


def test_the_real_teacher_teaches(tmp_path, real_faces):
    teacher = Teacher(real_faces / "teacher" / "model")
    assert teacher.embedding_size == 128
    config = tiny("small_student", max_updates=2, embedding_size=None)
    train(config, data=[real_faces / "train", real_faces / "wide"], out=tmp_path / "out", teacher=teacher)
    assert -1 < read_log(tmp_path / "out")[-1]["cosine"] < 1


def test_mixed_faces_need_a_teacher_that_looks_at_them(tmp_path, teacher, cache, face_folder):
    config = tiny("small_student", embedding_size=None, mix=0.5, max_updates=2)
    assert train(config, data=face_folder, out=tmp_path / "online", teacher=teacher).updates == 2
    with pytest.raises(SettingError, match="mix=0.5 needs a teacher that looks at each picture"):
        train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher, cache=cache)
