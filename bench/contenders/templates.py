"""IJB's protocols on random embeddings: pooling, 1:1 and 1:N, by this package, or template by template and in slices of
pairs as the lineage's scripts do."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vargfacenet.eval.protocols.identification import identification, search
from vargfacenet.eval.protocols.templates import pair_scores, pool_templates, verify_templates

_SLICE = 100_000  # pairs at a time in the lineage's scripts


def prepare(
    *, images: int, templates: int, gallery: int, pairs: int, embedding_size: int, loop: bool = False
) -> Callable[[], dict[str, Any]]:
    """Prepare to search the first `gallery` templates, half in each of two galleries; each pair has one of them."""
    random, generator = np.random.RandomState(0), np.random.default_rng(0)
    embeddings = generator.standard_normal((2, images, embedding_size), np.float32)
    template = np.sort(np.concatenate([np.arange(templates), random.randint(0, templates, images - templates)]))
    medium = random.randint(0, 6, images)
    identities = np.where(np.arange(templates) < gallery, np.arange(templates), random.randint(0, gallery, templates))
    centres = generator.standard_normal((gallery, embedding_size), np.float32) * np.float32(0.1)
    for rows in np.array_split(np.arange(images), 64):
        embeddings[:, rows] += centres[identities[template[rows]]]
    first = np.sort(random.randint(0, gallery, pairs))
    second = random.randint(gallery, templates, pairs)
    own = np.arange(gallery, templates)
    first[: len(own)], second[: len(own)] = identities[own], own
    is_same = identities[first] == identities[second]
    steps: tuple[Callable[..., Any], Callable[..., Any]]
    steps = (loop_pool, loop_scores) if loop else (pool, pair_scores)

    def turn() -> dict[str, Any]:
        pooled: np.ndarray = steps[0](*embeddings, template, medium)
        found = verify_templates(steps[1](pooled, first, second), is_same)
        tpir = []
        for part in (slice(0, gallery // 2), slice(gallery // 2, gallery)):
            ranked = search(pooled[gallery:], identities[gallery:], pooled[:gallery][part], identities[:gallery][part])
            tpir.append(identification(ranked).tpir["0.01"])
        return {"items": 1, "tar": found.tar["0.0001"], "tpir": sum(tpir) / 2}

    return turn


def pool(embeddings: np.ndarray, mirrored: np.ndarray, template: np.ndarray, medium: np.ndarray) -> np.ndarray:
    return pool_templates(embeddings, mirrored, np.arange(len(template)), template, medium).embeddings


def loop_pool(embeddings: np.ndarray, mirrored: np.ndarray, template: np.ndarray, medium: np.ndarray) -> np.ndarray:
    """Pool one template after another, found by comparing all numbers, with a list of means of media."""
    both, rows = embeddings + mirrored, []
    for number in np.unique(template):
        inside = np.flatnonzero(template == number)
        means = [both[inside[medium[inside] == one]].mean(axis=0) for one in np.unique(medium[inside])]
        rows.append(np.sum(means, axis=0))
    return (np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def loop_scores(pooled: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Score one slice of pairs after another by copies of the rows of both sides."""
    scores = np.empty(len(first), np.float32)
    for begin in range(0, len(first), _SLICE):
        part = slice(begin, begin + _SLICE)
        scores[part] = (pooled[first[part]] * pooled[second[part]]).sum(axis=1)
    return scores
