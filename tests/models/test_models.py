"""Networks that come with the package: whole, small, described, and found by their names."""

import numpy as np
import pytest

from tests.helpers.images import image
from vargfacenet.commands import main
from vargfacenet.deploy import load_model
from vargfacenet.deploy.export import metadata
from vargfacenet.errors import CheckpointError
from vargfacenet.eval import Embedder, read_pairs, verify_pairs
from vargfacenet.eval.pairs import Pairs
from vargfacenet.formats.checkpoint import load_checkpoint, save_checkpoint
from vargfacenet.models import FOLDER, LICENCE, find_model, list_models
from vargfacenet.symbols import get_symbol

MODELS = [pytest.param(model, id=model.name) for model in list_models()]


@pytest.mark.parametrize("model", MODELS)
def test_a_bundled_network_loads_by_its_name_and_embeds(model):
    embedder = Embedder(*load_checkpoint(model.name, 0))
    faces = np.stack([image(identity, 0) for identity in range(2)]).transpose(0, 3, 1, 2).astype(np.float32)
    embeddings = embedder.embed_batch(faces)
    assert embeddings.shape == (2, model.embedding_size)
    assert np.isfinite(embeddings).all()
    assert np.abs(embeddings[0] - embeddings[1]).max() > 0.1


@pytest.mark.parametrize("model", MODELS)
def test_a_bundled_network_brings_its_threshold_and_says_where_it_is_from(model):
    loaded = load_model(model.name)
    assert (loaded.threshold, loaded.far) == (model.threshold, model.far)
    card = model.card.read_text(encoding="utf-8")
    for fact in (f"{model.threshold:.4f}", f"{model.accuracy:.5f}", "non-commercial research only", "must not be used"):
        assert fact in card
    assert "non-commercial" in LICENCE.read_text(encoding="utf-8")


def test_the_half_width_network_is_the_builders_graph():
    symbol = load_checkpoint("vargfacenet-x050", 0).symbol
    built = get_symbol("vargfacenet", multiplier=0.5, embedding_size=128)
    assert symbol.list_arguments() == built.list_arguments()
    assert symbol.list_auxiliary_states() == built.list_auxiliary_states()


def test_all_of_them_together_stay_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8 << 20


def test_a_checkpoint_at_hand_goes_before_a_bundled_one_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model("vargfacenet-x050") is not None
    (tmp_path / "vargfacenet-x050-symbol.json").write_text("{}")
    assert find_model("vargfacenet-x050") is None
    with pytest.raises(CheckpointError):
        load_checkpoint("vargfacenet-x050", 0)


def test_another_name_is_not_a_bundled_network():
    assert find_model("vargfacenet") is None
    assert find_model(FOLDER / "vargfacenet-x050") is None


def test_accuracy_on_lfw_is_the_one_on_the_card(real_faces):
    """On every other of the first 600 pairs: within the interval that so few pairs allow around the accuracy of all."""
    pairs = read_pairs(real_faces / "lfw.bin")
    model = find_model("vargfacenet-x050")
    embedder = Embedder(*load_checkpoint(model.name, 0))
    images = [encoded for pair in range(0, 600, 2) for encoded in pairs.images[2 * pair : 2 * pair + 2]]
    found = verify_pairs(embedder, Pairs(images, pairs.is_same[:600:2])).accuracy
    assert abs(found - model.accuracy) < 0.03


def test_the_command_lists_every_network_with_its_card(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for model in list_models():
        assert model.name in printed
        assert str(model.card) in printed
    assert "non-commercial research only" in printed


def test_saving_under_a_bundled_name_writes_where_one_stands(tmp_path, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    monkeypatch.chdir(tmp_path)
    save_checkpoint("vargfacenet-x050", 0, *load_checkpoint("vargfacenet-x050", 0))
    assert (tmp_path / "vargfacenet-x050-0000.params").is_file()
    assert before == {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()}


def test_an_epoch_that_is_not_there_names_the_one_that_is():
    with pytest.raises(CheckpointError, match="there are epochs 0"):
        load_checkpoint("vargfacenet-x050", 3)


def test_an_exported_file_keeps_threshold_and_licence():
    facts = metadata(None, "vargfacenet-x050", 0)
    assert facts["threshold"] == repr(find_model("vargfacenet-x050").threshold)
    assert "non-commercial" in facts["license"]
