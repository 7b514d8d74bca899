"""Teachers, online and cached: the same embeddings, and never anything but a teacher."""

import json

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from tests.helpers.training import tiny
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, JoinedSets, RecordSet
from vargfacenet.data.writer import write_records
from vargfacenet.errors import CheckpointError, DataError, SettingError
from vargfacenet.eval import Embedder, read_sets
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.files import fingerprint
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train.cache import open_embeddings, write_embeddings
from vargfacenet.train.run import train
from vargfacenet.train.run_log import read_log
from vargfacenet.train.teacher import CachedTeacher, OnlineTeacher, Teacher, teacher_scores


def first_batch(records, **augment):
    iterator = FaceIterator(BatchReader(records, batch_size=12, seed=3, augment=Augmentation(**augment)))
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
    images = batch.data[0].asnumpy()
    embedder = Embedder(*teacher.checkpoint, batch_size=12)
    expected = embedder.embed_batch(images)
    if mirror:
        other = embedder.embed_batch(np.ascontiguousarray(images[:, :, :, ::-1]))
        expected = expected / np.linalg.norm(expected, axis=1)[:, None] + other / np.linalg.norm(other, axis=1)[:, None]
    online = OnlineTeacher(teacher, batch_size=12, devices=[mx.cpu()], mirror=mirror)
    arrays = [open_embeddings(teacher, records.sets[0], cache)]
    for source in (online, CachedTeacher(arrays, records, mirror=mirror)):
        found = source.embed(batch)
        assert found.shape == (12, 16)
        assert found.dtype == np.float32
        np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-6)


def test_the_teacher_is_in_inference_mode_and_stays_as_it_is(teacher, face_folder):
    """Dropout and batch statistics would make an embedding depend on chance and on the rest of the batch."""
    assert "Dropout" in teacher.checkpoint.symbol.tojson()
    online = OnlineTeacher(teacher, batch_size=4, devices=[mx.cpu()])
    images = first_batch(JoinedSets([face_folder])).data[0]
    with mx.autograd.record():  # which puts MXNet into training mode
        found = [online.embed(mx.io.DataBatch([rows])).asnumpy() for rows in (images[:4], images[:4])]
        others = online.embed(mx.io.DataBatch([mx.nd.concat(images[:1], images[6:9], dim=0)])).asnumpy()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(others[0], found[0][0], atol=1e-3)
    again = online.embed(mx.io.DataBatch([images[:4]])).asnumpy()
    np.testing.assert_array_equal(again, found[0])


def test_two_devices_embed_as_one_does(teacher, face_folder):
    batch = first_batch(JoinedSets([face_folder]))
    one, two = (
        OnlineTeacher(teacher, batch_size=12, devices=devices).embed(batch).asnumpy()
        for devices in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)])
    )
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_student_has_the_same_losses_online_and_cached(tmp_path, teacher, face_folder):
    """Embeddings are made in batches of one size: the last digits depend on it, and each update multiplies them."""
    arrays = {**teacher.checkpoint.args, **teacher.checkpoint.auxs}
    before = {name: value.asnumpy().copy() for name, value in arrays.items()}
    write_embeddings(teacher, RecordSet(face_folder), tmp_path / "cache", batch_size=8)
    config = tiny("demo_student", generations=1, log_every=1, max_updates=10, color_jitter=0)
    train(config, data=face_folder, out=tmp_path / "online", teacher=teacher)
    train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher.stored_in(tmp_path / "cache"))
    online, cached = read_log(tmp_path / "online"), read_log(tmp_path / "cached")
    assert len({line["distillation_loss"] for line in online}) == 10
    for one, other in zip(online, cached):
        # oneDNN may choose kernels that round in another order; the updates multiply it, with AVX2 to 6.4e-5 in 18.
        bound = 1e-5 if one["update"] <= 5 else 5e-4
        for name in ("loss", "distillation_loss", "cosine"):
            assert one[name] == pytest.approx(other[name], abs=1e-5, rel=bound)
    for name, value in arrays.items():
        np.testing.assert_array_equal(value.asnumpy(), before[name], err_msg=name)
    learned_from = [
        json.loads((tmp_path / name / "data.json").read_text())["learned from"] for name in ("online", "cached")
    ]
    assert learned_from == [f"{teacher}, online", f"{teacher}, embeddings in {tmp_path / 'cache'}"]


def test_another_batch_size_of_the_teacher_leaves_the_losses_of_the_same_parameters(tmp_path, face_folder):
    teacher = Teacher(save_random_checkpoint(tmp_path / "model", "resnet18", multiplier=0.25, embedding_size=128))
    write_embeddings(teacher, RecordSet(face_folder), tmp_path / "cache", batch_size=5)
    config = tiny("small_student", log_every=1, max_updates=2, color_jitter=0, shift=0, lr=0, embedding_size=None)
    train(config, data=face_folder, out=tmp_path / "online", teacher=teacher)
    train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher.stored_in(tmp_path / "cache"))
    for one, other in zip(read_log(tmp_path / "online"), read_log(tmp_path / "cached")):
        assert one["distillation_loss"] == pytest.approx(other["distillation_loss"], abs=1e-5)


def test_two_sets_are_cached_side_by_side(tmp_path, teacher, face_folder):
    write_records(tmp_path / "more", ((n, encode_jpeg(image(n + 20, 0))) for n in range(3)))
    for folder in (face_folder, tmp_path / "more"):
        write_embeddings(teacher, RecordSet(folder), tmp_path / "cache")
    joined = JoinedSets([tmp_path / "more", face_folder])
    batch = first_batch(joined)
    assert batch.index.min() < 3 <= batch.index.max()
    arrays = [open_embeddings(teacher, one, tmp_path / "cache") for one in joined.sets]
    found = CachedTeacher(arrays, joined).embed(batch)
    expected = Embedder(*teacher.checkpoint, batch_size=12).embed_batch(batch.data[0].asnumpy())
    np.testing.assert_allclose(cosines(found, expected), 1, atol=1e-6)


def test_scores_of_a_teacher_are_kept_by_what_they_are_of(tmp_path, teacher, pairs_file, pairs_set, monkeypatch):
    pairs, prints = read_sets([pairs_file]), {"stripes": fingerprint([pairs_file])}
    scores = teacher_scores(teacher, pairs, prints, tmp_path)
    monkeypatch.setattr("vargfacenet.train.teacher.make_embedder", None)  # whoever embeds now fails
    assert teacher_scores(teacher, pairs, prints, tmp_path) == scores
    with pytest.raises(TypeError):
        teacher_scores(teacher, pairs, {"stripes": "another set of that name"}, tmp_path)
    (tmp_path / "teacher-verification.json").write_text("[]")
    with pytest.raises(DataError, match="teacher-verification.json is damaged; delete it"):
        teacher_scores(teacher, pairs, prints, tmp_path)


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
    with pytest.raises(SettingError, match="mix=0.5 needs a teacher that embeds the mixed images"):
        train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher.stored_in(cache))
