"""Checkpoints as PyTorch modules and back, and embeddings that do not depend on the engine."""

import mxnet as mx
import numpy as np
import pytest
import torch

from vargfacenet.data import Augmentation, BatchReader, FaceIterator
from vargfacenet.data.joined import JoinedSets
from vargfacenet.errors import CheckpointError
from vargfacenet.eval import Embedder
from vargfacenet.eval.embedders import make_embedder
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.torch import load_module, save_checkpoint
from vargfacenet.torch.embed import TorchEmbedder, TorchTeacher
from vargfacenet.torch.precision import Compute
from vargfacenet.train.teacher import OnlineTeacher

CPU = torch.device("cpu", 0)


def images(count=3):
    return np.random.RandomState(0).uniform(0, 255, (count, 3, 112, 112)).astype(np.float32)


def test_a_module_embeds_as_the_checkpoint_does(teacher_prefix):
    module = load_module(teacher_prefix)
    assert not module.training
    with torch.no_grad():
        found = module(torch.from_numpy(images())).numpy()
    expected = Embedder(*load_checkpoint(teacher_prefix, 0), batch_size=3).embed_batch(images())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_bundled_network_is_loaded_by_its_name():
    module = load_module("vargfacenet-x050")
    with torch.no_grad():
        found = module(torch.from_numpy(images(2))).numpy()
    expected = Embedder(*load_checkpoint("vargfacenet-x050", 0), batch_size=2).embed_batch(images(2))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_module_is_saved_as_a_checkpoint_of_the_lineage(teacher_prefix, tmp_path):
    module = load_module(teacher_prefix)
    with torch.no_grad():
        module.fc1_beta += 1
    save_checkpoint(module.to(memory_format=torch.channels_last), tmp_path / "model", 3)
    symbol, args, auxs = mx.model.load_checkpoint(str(tmp_path / "model"), 3)
    before = load_checkpoint(teacher_prefix, 0)
    assert symbol.tojson() == before.symbol.tojson()
    assert set(args) == set(before.args)
    for name, value in {**args, **auxs}.items():
        expected = {**before.args, **before.auxs}[name].asnumpy() + (name == "fc1_beta")
        np.testing.assert_array_equal(value.asnumpy(), expected, err_msg=name)


def test_what_is_not_finite_is_not_saved(teacher_prefix, tmp_path):
    module = load_module(teacher_prefix)
    with torch.no_grad():
        module.fc1_beta.fill_(np.nan)
    with pytest.raises(CheckpointError, match="fc1_beta holds NaN or infinity"):
        save_checkpoint(module, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint file .*nothing-symbol.json"):
        load_module(tmp_path / "nothing")


def test_embedders_of_both_engines_agree(teacher):
    ours = make_embedder(*teacher.checkpoint, device=CPU, batch_size=4)
    assert isinstance(ours, TorchEmbedder)
    theirs = make_embedder(*teacher.checkpoint, batch_size=4)
    assert isinstance(theirs, Embedder)
    expected = theirs.embed_batch(images())
    np.testing.assert_allclose(ours.embed_batch(images()), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("mirror", [False, True])
def test_teachers_of_both_engines_agree(teacher, face_folder, mirror):
    iterator = FaceIterator(BatchReader(JoinedSets([face_folder]), batch_size=4, seed=3, augment=Augmentation()))
    batch = iterator.next()
    iterator.close()
    expected = OnlineTeacher(teacher, batch_size=4, devices=[mx.cpu()], mirror=mirror).embed(batch).asnumpy()
    found = TorchTeacher(teacher, Compute(CPU), mirror=mirror).embed(batch)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3 * np.abs(expected).max())
    if not mirror:
        assert torch.equal(found, found.half().float())  # rounded as stored embeddings are
