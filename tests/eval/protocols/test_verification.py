"""The protocol compared with a plain computation, and with sets of known accuracy."""

import numpy as np
import pytest
import sklearn.model_selection
import sklearn.preprocessing

from tests.helpers.embeddings import make_pair_embeddings
from vargfacenet.errors import DataError
from vargfacenet.eval import Embedder, verify_embeddings, verify_pairs
from vargfacenet.eval.pairs import Pairs, read_pairs
from vargfacenet.eval.protocols.verification import fold_accuracies, pair_distances, tar_at_far


def plain_protocol(embeddings, is_same, far_target=1e-3):
    """Compute accuracies, thresholds and TAR of each fold with plain loops."""
    unit = sklearn.preprocessing.normalize(embeddings)
    distances = np.sum(np.square(unit[0::2] - unit[1::2]), axis=1)
    folds = sklearn.model_selection.KFold(n_splits=10, shuffle=False)
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracies, thresholds, tars = [], [], []
    for train, test in folds.split(distances):
        best = max(range(len(coarse)), key=lambda t: (((distances[train] < coarse[t]) == is_same[train]).mean(), -t))
        thresholds.append(coarse[best])
        accuracies.append(((distances[test] < coarse[best]) == is_same[test]).mean())
        fars = [(distances[train] < t)[~is_same[train]].mean() for t in fine]
        threshold = 0.0
        if max(fars) >= far_target:
            above = next(i for i, far in enumerate(fars) if far > far_target)
            share = (far_target - fars[above - 1]) / (fars[above] - fars[above - 1])
            threshold = fine[above - 1] + share * (fine[above] - fine[above - 1])
        tars.append((distances[test] < threshold)[is_same[test]].mean())
    return np.array(accuracies), np.array(thresholds), np.array(tars)


@pytest.mark.parametrize(("pairs", "noise"), [(600, 0.5), (600, 1.2), (237, 0.9), (100, 3.0)])
def test_equals_the_plain_computation(pairs, noise):
    embeddings, is_same = make_pair_embeddings(pairs, noise)
    mirrored = embeddings + 0.1 * np.random.RandomState(1).normal(size=embeddings.shape)
    found = verify_embeddings(embeddings, mirrored, is_same)
    accuracies, thresholds, tars = plain_protocol(embeddings + mirrored, is_same)
    plain, _, _ = plain_protocol(embeddings, is_same)
    assert found.accuracy == pytest.approx(accuracies.mean(), abs=1e-9)
    assert found.std == pytest.approx(accuracies.std(), abs=1e-9)
    assert found.threshold == pytest.approx(thresholds.mean(), abs=1e-9)
    assert found.accuracy_no_flip == pytest.approx(plain.mean(), abs=1e-9)
    assert found.std_no_flip == pytest.approx(plain.std(), abs=1e-9)
    assert found.tar["0.001"] == pytest.approx(tars.mean(), abs=1e-9)
    assert found.pairs == pairs


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_plain_computation_with_ties(seed):
    random = np.random.RandomState(seed)
    # Few poses, so that many pairs have one distance; orthogonal and opposite ones lie on thresholds.
    pool = np.concatenate([np.eye(4), -np.eye(4)[:2], random.normal(size=(3, 4))])
    embeddings = pool[random.randint(len(pool), size=800)] * 2.0 ** random.randint(-2, 3, (800, 1))
    mirrored = pool[random.randint(len(pool), size=800)]
    zero = np.linalg.norm(embeddings + mirrored, axis=1) == 0
    mirrored[zero] = embeddings[zero]
    is_same = random.rand(400) < 0.5
    found = verify_embeddings(embeddings, mirrored, is_same)
    accuracies, thresholds, tars = plain_protocol(embeddings + mirrored, is_same)
    plain, _, _ = plain_protocol(embeddings, is_same)
    assert found.accuracy == pytest.approx(accuracies.mean(), abs=1e-9)
    assert found.threshold == pytest.approx(thresholds.mean(), abs=1e-9)
    assert found.tar["0.001"] == pytest.approx(tars.mean(), abs=1e-9)
    assert (found.accuracy_no_flip, found.std_no_flip) == pytest.approx((plain.mean(), plain.std()), abs=1e-9)


def test_tar_grows_with_far():
    embeddings, is_same = make_pair_embeddings(600, 1.2)
    tar = verify_embeddings(embeddings, embeddings, is_same).tar
    assert 0 < tar["0.001"] <= tar["0.01"] <= tar["0.1"] <= 1


def test_perfect_embeddings_score_one():
    embeddings, is_same = make_pair_embeddings(100, 0.0)
    found = verify_embeddings(embeddings, embeddings, is_same)
    assert (found.accuracy, found.std, found.tar["0.001"]) == (1, 0, 1)


def test_collapsed_embeddings_score_a_half():
    is_same = np.arange(100) % 2 == 0
    found = verify_embeddings(np.ones((200, 8)), np.ones((200, 8)), is_same)
    assert found.accuracy == 0.5


def test_zero_embeddings_are_accepted():
    is_same = np.arange(100) % 2 == 0
    assert verify_embeddings(np.zeros((200, 8)), np.zeros((200, 8)), is_same).embedding_norm == 0


def test_norm_is_the_mean_over_images_and_mirrors():
    embeddings, is_same = np.ones((40, 4)), np.arange(20) % 2 == 0
    assert verify_embeddings(embeddings, 3 * embeddings, is_same).embedding_norm == pytest.approx(4)


def test_of_equal_thresholds_the_first_is_taken():
    is_same = np.arange(20) % 2 == 0
    distances = np.where(is_same, 0.5, 2.0)
    _, thresholds = fold_accuracies(distances, is_same)
    np.testing.assert_allclose(thresholds, 0.51)


def test_distances_of_known_angles():
    angle = 0.6
    embeddings = np.array([[2.0, 0], [3 * np.cos(angle), 3 * np.sin(angle)]])
    assert pair_distances(embeddings) == pytest.approx(2 - 2 * np.cos(angle))


def test_far_without_different_pairs_is_not_a_number():
    assert np.isnan(tar_at_far(np.ones(20), np.zeros(20, bool), 0.001))


def test_too_few_pairs_are_refused():
    with pytest.raises(DataError, match="9 pairs are too few"):
        verify_embeddings(np.ones((18, 4)), np.ones((18, 4)), np.ones(9, bool))


def test_embeddings_that_are_not_finite_are_refused():
    embeddings, is_same = make_pair_embeddings(20, 0.5)
    embeddings[7, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        verify_embeddings(embeddings, embeddings, is_same)


def test_lineage_checkpoint_on_real_faces(real_faces):
    from vargfacenet.formats.checkpoint import load_checkpoint

    pairs = read_pairs(real_faces / "lfw.bin")
    assert (len(pairs.is_same), int(pairs.is_same.sum())) == (6000, 3000)
    # Every thirtieth pair, in order: the whole set is for 'make verify'.
    chosen = range(0, 6000, 30)
    images = [pairs.images[2 * pair + side] for pair in chosen for side in (0, 1)]
    embedder = Embedder(*load_checkpoint(real_faces / "teacher" / "model", 0))
    found = verify_pairs(embedder, Pairs(images, pairs.is_same[::30]))
    assert found.accuracy == pytest.approx(0.991, abs=0.009)
    assert found.embedding_norm == pytest.approx(11.045, abs=0.1)  # as stock MXNet alone gives on these pairs
