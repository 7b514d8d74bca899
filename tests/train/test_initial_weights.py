"""The setting ``init``: what a run takes from a checkpoint, what it names and draws, and what it refuses."""

import logging

import numpy as np
import pytest

from tests.helpers.images import image
from tests.helpers.networks import save_random_checkpoint
from tests.helpers.training import TINY, parameters, tiny
from vargfacenet.data.writer import write_records
from vargfacenet.errors import CheckpointError, SettingError
from vargfacenet.eval import Embedder, read_sets, verify_pairs
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.train.generation_folder import GenerationFolder
from vargfacenet.train.run import train
from vargfacenet.train.run_folder import Resume

NETWORK = {name: TINY[name] for name in ("multiplier", "units", "use_se", "embedding_size")}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A checkpoint of the tiny student's network whose running statistics are those of no batch."""
    return save_random_checkpoint(tmp_path_factory.mktemp("pretrained") / "model", "vargfacenet", seed=5, **NETWORK)


@pytest.fixture(scope="module")
def new_faces(tmp_path_factory):
    """A training set of 7 identities, of other stripes than those of `face_folder`."""
    folder = tmp_path_factory.mktemp("new")
    write_records(folder, ((identity, encode_jpeg(image(identity + 9, n))) for identity in range(7) for n in range(2)))
    return folder


def arguments(out):
    return {name: value for name, value in parameters(out).items() if name.startswith("arg:")}


def saved(prefix):
    return {f"arg:{name}": value.asnumpy() for name, value in load_checkpoint(prefix, 0).args.items()}


def test_a_run_on_other_identities_begins_with_the_network_of_the_checkpoint(
    tmp_path, caplog, pretrained, new_faces, pairs_file
):
    caplog.set_level(logging.INFO, "vargfacenet")
    config = tiny(init=f"{pretrained},0", lr=0, max_updates=2)
    result = train(config, data=new_faces, out=tmp_path / "out", bins=[pairs_file])
    found, expected = arguments(tmp_path / "out"), saved(pretrained)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    score = verify_pairs(Embedder(*load_checkpoint(pretrained, 0)), read_sets([pairs_file])["stripes"])
    at_first = result.generations[0].verifications[0]["stripes"]
    assert at_first["accuracy"] == pytest.approx(score.accuracy)
    assert at_first["threshold"] == pytest.approx(score.as_dict()["threshold"])
    classifier = GenerationFolder(tmp_path / "out").state.load_arrays()["arg:fc7_weight"]
    assert classifier.shape == (7, 16)
    assert f"init={pretrained},0: starts from" in caplog.text
    assert "newly drawn" not in caplog.text


def test_a_run_goes_on_learning_from_there(tmp_path, pretrained, new_faces):
    train(tiny(init=str(pretrained), max_updates=2, lr=0.001), data=new_faces, out=tmp_path / "out")
    found, expected = arguments(tmp_path / "out"), saved(pretrained)
    weights = [name for name in expected if name.endswith("weight")]
    distances = [np.linalg.norm(found[name] - expected[name]) / np.linalg.norm(expected[name]) for name in weights]
    assert min(distances) > 0
    assert np.median(distances) < 0.1


def test_layers_of_another_shape_or_name_are_named_and_drawn(tmp_path, caplog, pretrained, new_faces):
    caplog.set_level(logging.INFO, "vargfacenet")
    config = tiny(init=str(pretrained), lr=0, max_updates=1, warmup_updates=0, embedding_size=8, units=(1, 2, 1))
    train(config, data=new_faces, out=tmp_path / "out")
    found, expected = arguments(tmp_path / "out"), saved(pretrained)
    same = {name for name, value in found.items() if np.array_equal(value, expected.get(name))}
    (drawn,) = [line.getMessage() for line in caplog.records if "newly drawn" in line.getMessage()]
    assert "pre_fc1_weight (shape (16, 512), here (8, 512))" in drawn
    second = [name for name in found if "stage_3_unit_2" in name]
    assert second
    assert "stage_3_unit_2" in drawn
    assert "(missing)" in drawn
    assert not same & {*second, "arg:pre_fc1_weight"}
    assert {name for name in expected if "stage_2" in name or "head" in name} <= same


def test_classifiers_in_shards_and_later_generations_start_as_usual(tmp_path, pretrained, new_faces, teacher):
    train(
        tiny(init=str(pretrained), head="sharded", lr=0, max_updates=1, warmup_updates=0),
        data=new_faces,
        out=tmp_path / "sharded",
    )
    np.testing.assert_array_equal(
        arguments(tmp_path / "sharded")["arg:pre_fc1_weight"], saved(pretrained)["arg:pre_fc1_weight"]
    )
    config = tiny("demo_student", init=str(pretrained), generations=2, max_updates=2)
    train(config, data=new_faces, out=tmp_path / "two", teacher=teacher)
    first, second = (arguments(tmp_path / "two" / f"generation-{number}") for number in (1, 2))
    step, back = (
        np.linalg.norm(second["arg:pre_fc1_weight"] - start["arg:pre_fc1_weight"])
        for start in (first, saved(pretrained))
    )
    assert 0 < step < back  # the second generation starts from the first one's student


def test_a_bundled_network_is_fine_tuned_by_its_name(tmp_path, new_faces):
    config = tiny(
        init="vargfacenet-x050",
        multiplier=0.5,
        units=(3, 7, 4),
        use_se=True,
        embedding_size=128,
        lr=0,
        max_updates=1,
        warmup_updates=0,
        batch_size=2,
    )
    train(config, data=new_faces, out=tmp_path / "out")
    found, expected = arguments(tmp_path / "out"), saved("vargfacenet-x050")
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_resumed_run_needs_the_setting_and_not_the_file(tmp_path, new_faces):
    prefix = save_random_checkpoint(tmp_path / "model", "vargfacenet", seed=5, **NETWORK)
    config = tiny(init=str(prefix), max_updates=2, save_every=1)
    train(config, data=new_faces, out=tmp_path / "out")
    before = arguments(tmp_path / "out")
    for path in tmp_path.glob("model-*"):
        path.unlink()
    (newest,) = (tmp_path / "out" / "states").glob("update-000000002*.json")
    for path in newest.parent.glob("update-000000002*"):
        path.unlink()
    with pytest.raises(SettingError, match=r"init: .*model then, None now"):
        train(tiny(max_updates=2, save_every=1), data=new_faces, out=tmp_path / "out", resume=Resume())
    assert train(config, data=new_faces, out=tmp_path / "out", resume=Resume()).updates == 1
    for name, value in arguments(tmp_path / "out").items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_mistakes_are_reported_before_anything_is_written(tmp_path, new_faces, teacher_prefix):
    for init, error, message in (
        ("nowhere", CheckpointError, "no checkpoint file nowhere-symbol.json"),
        ("x.onnx", SettingError, "init=x.onnx: an ONNX file holds no trainable network"),
    ):
        with pytest.raises(error, match=message):
            train(tiny(init=init), data=new_faces, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match=r"no layer of it fits the network of these settings: \w+ \(missing\)"):
        train(tiny(init=str(teacher_prefix)), data=new_faces, out=tmp_path / "out")
