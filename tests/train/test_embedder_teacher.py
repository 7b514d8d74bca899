"""Teachers of other kinds than a checkpoint: the same student, the scaling that they need, and what they never teach."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.helpers.onnx_models import model
from tests.helpers.training import tiny
from vargfacenet.commands import main
from vargfacenet.data import Augmentation, BatchReader, FaceIterator, JoinedSets, RecordSet
from vargfacenet.deploy.models import open_model
from vargfacenet.deploy.signature import Scaling
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval import ImageEmbedder
from vargfacenet.train.cache import default_folder, open_embeddings, write_embeddings
from vargfacenet.train.embedder_teacher import EmbedderTeacher, OnlineEmbedder
from vargfacenet.train.run import train
from vargfacenet.train.run_log import read_log

FILTERS = np.random.RandomState(0).normal(size=(8, 3, 112, 112)).astype(np.float32) / 1000


@pytest.fixture(scope="module")
def exported(tmp_path_factory, teacher_prefix):
    """The checkpoint of `teacher_prefix` as an ONNX file."""
    path = tmp_path_factory.mktemp("exported") / "teacher.onnx"
    assert main(["export", str(teacher_prefix), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An ONNX file without scaling of its own, one convolution of the whole image."""
    path = tmp_path_factory.mktemp("foreign") / "foreign.onnx"
    path.write_bytes(model(weights=[numpy_helper.from_array(FILTERS, "weight")]).SerializeToString())
    return path


def onnx_teacher(path, scaling=None):
    opened = open_model(path, scaling=scaling)
    return EmbedderTeacher(opened.embedder, opened.fingerprint, argument=str(path))


def first_batch(records):
    iterator = FaceIterator(BatchReader(records, batch_size=12, seed=3, augment=Augmentation()))
    batch = iterator.next()
    iterator.close()
    return batch


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def by_numpy(images, mean=127.5, std=127.5):
    scaled = (images.astype(np.float64) - mean) / std
    return unit(np.einsum("nchw,ochw->no", scaled, FILTERS.astype(np.float64)))


class Constant(ImageEmbedder):
    """Gives one row, whatever the images, for each of them or for the first alone."""

    batch_size = 32

    def __init__(self, value=1.0, rows=None):
        self.value, self.rows = value, rows

    def embed_batch(self, images):
        return np.full((self.rows or len(images), 16), self.value, np.float32)


@pytest.mark.parametrize(("lr", "updates"), [(0, 4), (0.05, 2)])
def test_an_exported_teacher_gives_a_student_the_losses_of_its_checkpoint(
    tmp_path, teacher, exported, face_folder, lr, updates
):
    """Four batches without learning, and one update: later updates magnify rounding a hundredfold in any runtime."""
    from_onnx = onnx_teacher(exported)
    assert from_onnx.embedding_size == teacher.embedding_size == 16
    write_embeddings(from_onnx, RecordSet(face_folder), tmp_path / "cache", batch_size=8)
    config = tiny("demo_student", generations=1, log_every=1, max_updates=updates, color_jitter=0, lr=lr)
    teachers = {"checkpoint": teacher, "online": from_onnx, "cached": from_onnx.stored_in(tmp_path / "cache")}
    for name, one in teachers.items():
        train(config, data=face_folder, out=tmp_path / name, teacher=one)
    expected, *others = (read_log(tmp_path / name) for name in teachers)
    assert len({line["distillation_loss"] for line in expected}) == updates
    for log in others:
        assert len(log) == updates
        for line, other in zip(expected, log):
            for measure in ("loss", "distillation_loss", "cosine"):
                assert other[measure] == pytest.approx(line[measure], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, lambda images: by_numpy(images)),
        (Scaling(100.0, 50.0), lambda images: by_numpy(images, 100, 50)),
        (Scaling(bgr=True), lambda images: by_numpy(images[:, ::-1])),
    ],
    ids=["assumed", "given", "bgr"],
)
def test_images_are_scaled_as_the_network_needs_it(foreign, face_folder, scaling, expected, mirror):
    batch = first_batch(JoinedSets([face_folder]))
    images = batch.data[0].asnumpy()
    rows = expected(images)
    if mirror:
        rows = rows + expected(images[:, :, :, ::-1])
    found = OnlineEmbedder(onnx_teacher(foreign, scaling), mirror=mirror).embed(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.asnumpy(), rows, atol=1e-3)


def test_batches_larger_than_the_embedders_are_embedded_in_parts(foreign, face_folder):
    batch = first_batch(JoinedSets([face_folder]))
    opened = open_model(foreign, batch_size=5)
    teacher = EmbedderTeacher(opened.embedder, opened.fingerprint, argument="foreign.onnx")
    np.testing.assert_allclose(
        OnlineEmbedder(teacher).embed(batch).asnumpy(), by_numpy(batch.data[0].asnumpy()), atol=1e-3
    )


def test_stored_embeddings_are_of_the_bytes_of_a_file_and_of_the_scaling(tmp_path, foreign, face_folder):
    records = RecordSet(face_folder)
    teacher, bgr = onnx_teacher(foreign), onnx_teacher(foreign, Scaling(bgr=True))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(model(weights=[numpy_helper.from_array(-FILTERS, "weight")]).SerializeToString())
    others = [bgr, onnx_teacher(foreign, Scaling(100.0, 50.0)), onnx_teacher(changed)]
    assert len({default_folder(one) for one in (teacher, *others)}) == 4
    write_embeddings(teacher, records, tmp_path / "cache")
    for other in others:
        with pytest.raises(DataError, match="is stale: its embeddings are of"):
            open_embeddings(other, records, tmp_path / "cache")
    same = open_embeddings(onnx_teacher(foreign, Scaling(127.5, 127.5)), records, tmp_path / "cache")
    assert np.asarray(same[0]).shape == (2, 8)


def test_a_scaling_that_the_file_states_is_used(tmp_path, face_folder):
    made = model(weights=[numpy_helper.from_array(FILTERS, "weight")])
    helper.set_model_props(made, {"input_mean": "100", "input_std": "50", "input_order": "BGR"})
    (tmp_path / "stated.onnx").write_bytes(made.SerializeToString())
    batch = first_batch(JoinedSets([face_folder]))
    found = OnlineEmbedder(onnx_teacher(tmp_path / "stated.onnx")).embed(batch).asnumpy()
    np.testing.assert_allclose(found, by_numpy(batch.data[0].asnumpy()[:, ::-1], 100, 50), atol=1e-3)


def test_embeddings_that_are_not_finite_or_too_few_do_not_teach(face_folder):
    batch = first_batch(JoinedSets([face_folder]))
    with pytest.raises(DataError, match="the teacher broken gives embeddings that are not finite; it cannot teach"):
        OnlineEmbedder(EmbedderTeacher(Constant(np.nan), "0", argument="broken")).embed(batch)
    with pytest.raises(DataError, match=r"gives an output of shape \(1, 16\), expected \(12, 16\)"):
        OnlineEmbedder(EmbedderTeacher(Constant(rows=1), "0", argument="broken")).embed(batch)


def test_mixed_faces_are_embedded_online(tmp_path, exported, face_folder):
    teacher = onnx_teacher(exported)
    config = tiny("small_student", embedding_size=None, mix=0.5, max_updates=2, generations=1)
    assert train(config, data=face_folder, out=tmp_path / "online", teacher=teacher).updates == 2
    with pytest.raises(SettingError, match="mix=0.5 needs a teacher that embeds the mixed images"):
        train(config, data=face_folder, out=tmp_path / "cached", teacher=teacher.stored_in(tmp_path))


def test_multi_step_distillation_needs_checkpoints(tmp_path, exported, face_folder):
    config = tiny("demo_student", generations=1, teacher_epochs=True)
    with pytest.raises(
        SettingError, match=r"teacher_epochs=true needs a checkpoint .*teacher.onnx has none; leave out"
    ):
        train(config, data=face_folder, out=tmp_path / "out", teacher=onnx_teacher(exported))
