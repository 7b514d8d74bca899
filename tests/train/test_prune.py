"""Pruning of a trained network from end to end, on tiny networks."""

import contextlib

import mxnet as mx
import numpy as np
import pytest

from tests.helpers.networks import save_random_checkpoint
from vargfacenet.commands import main
from vargfacenet.data.writer import write_records
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval import Embedder
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.formats.images import encode_jpeg
from vargfacenet.symbols.channels import Channels
from vargfacenet.symbols.complexity import complexity
from vargfacenet.symbols.pruning import filters_of
from vargfacenet.train.prune import Plan, fine_tune, mean_cosine, prune, score_filters
from vargfacenet.train.training_data import open_records

OPTIONS = {"multiplier": 0.25, "units": (1, 1, 1), "use_se": False, "embedding_size": 16}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return save_random_checkpoint(tmp_path_factory.mktemp("whole") / "model", "vargfacenet", **OPTIONS)


@pytest.fixture
def records(face_folder):
    with contextlib.closing(open_records(face_folder)) as records:
        yield records


def test_a_share_of_the_filters_goes_in_steps_and_every_run_is_alike(prefix, records):
    whole = load_checkpoint(prefix, 0)
    plan = Plan(share=0.3, steps=2, images=16, updates=2, batch_size=8)
    once, again = (prune(whole, records, plan) for _ in range(2))
    filters = [sum(filters_of(Channels(one.symbol)).values()) for one in (whole, once)]
    assert 0.25 < 1 - filters[1] / filters[0] < 0.45
    assert complexity(once.symbol).flops < complexity(whole.symbol).flops
    assert once.symbol.tojson() == again.symbol.tojson()
    for part, other in zip(once[1:], again[1:]):
        for name, value in part.items():
            np.testing.assert_array_equal(value.asnumpy(), other[name].asnumpy(), err_msg=name)


def test_filters_that_do_nothing_score_nothing_and_go_first(prefix, records):
    whole = load_checkpoint(prefix, 0)
    channels = Channels(whole.symbol)
    # Units that stand in the first convolution of a block alone.
    candidates = sorted(filters_of(channels).items(), key=lambda item: item[1])
    dead = {unit for unit, _ in candidates[:3]}
    args = {name: value.asnumpy().copy() for name, value in whole.args.items()}
    for name, uses in channels.uses.items():
        for use in uses:
            if use.gives and name in args:
                args[name][np.isin(use.units, list(dead))] = 0
    checkpoint = whole._replace(args={name: mx.nd.array(value) for name, value in args.items()})
    plan = Plan(images=16, batch_size=8)
    scores = score_filters(checkpoint, channels, records, plan, step=1, device=mx.cpu())
    counted = [unit for unit in filters_of(channels) if unit not in dead]
    assert all(scores[unit] == 0 for unit in dead)
    assert np.median([scores[unit] for unit in counted]) > 0


def test_fine_tuning_brings_embeddings_nearer_to_what_they_were(prefix, records):
    whole = load_checkpoint(prefix, 0)
    plan = Plan(share=0.3, steps=1, images=8, updates=0, batch_size=8, lr=0.05)
    pruned = prune(whole, records, plan)
    with contextlib.closing(open_records(records.sets[0].path.parent)) as again:
        images = np.stack([again.sets[0].read_face(int(key))[0] for key in again.sets[0].keys[:12]])
    images = images.transpose(0, 3, 1, 2).astype(np.float32)

    def cosine(checkpoint):
        one, other = (Embedder(*each, batch_size=12).embed_batch(images) for each in (whole, checkpoint))
        return ((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).mean()

    tuned = fine_tune(pruned, whole, records, plan._replace(updates=30), step=1, device=mx.cpu())
    assert cosine(tuned) > cosine(pruned)


def test_the_cosine_is_that_of_numpy_on_images_of_the_set(prefix, records):
    whole = load_checkpoint(prefix, 0)
    plan = Plan(share=0.3, steps=1, images=8, updates=0, batch_size=8)
    assert mean_cosine(whole, whole, records, plan, device=mx.cpu()) == pytest.approx(1, abs=1e-6)
    turned = whole._replace(auxs={**whole.auxs}, args={**whole.args})
    for name in ("fc1_gamma", "fc1_beta"):
        turned.args[name] = -whole.args[name]
    assert mean_cosine(whole, turned, records, plan, device=mx.cpu()) == pytest.approx(-1, abs=1e-6)
    pruned = prune(whole, records, plan)
    first = mean_cosine(whole, pruned, records, plan, device=mx.cpu())
    assert first == mean_cosine(whole, pruned, records, plan, device=mx.cpu())
    assert -1 < first < 1


def test_values_out_of_range_and_one_identity_are_refused(prefix, records, tmp_path):
    whole = load_checkpoint(prefix, 0)
    with pytest.raises(SettingError, match="share=1.5: expected between"):
        prune(whole, records, Plan(share=1.5))
    one = encode_jpeg(np.zeros((112, 112, 3), np.uint8))
    write_records(tmp_path / "one", ((0, one) for _ in range(4)))
    with (
        contextlib.closing(open_records(tmp_path / "one")) as alone,
        pytest.raises(DataError, match="are of one identity"),
    ):
        prune(whole, alone, Plan(images=4, batch_size=4))


def test_the_command_writes_a_checkpoint_and_a_table(prefix, face_folder, pairs_file, tmp_path, capsys):
    command = ["prune", str(prefix), str(tmp_path / "small"), "--data", str(face_folder), "--bins", str(pairs_file)]
    options = ["--steps", "1", "--images", "8", "--updates", "1", "--batch-size", "8"]
    assert main([*command, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["network", "parameters", "FLOPs", "MiB", "cosine", "stripes"]
    assert lines[2].split()[4] == "1.0000"
    assert -1 < float(lines[3].split()[4]) < 1
    small = load_checkpoint(tmp_path / "small", 0)
    assert f"{complexity(small.symbol).flops:,}" in lines[3]
    assert main([*command, "--share", "0"]) == 2
    assert "share=0.0: expected between" in capsys.readouterr().err
