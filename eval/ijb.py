"""Protocols of IJB-B and IJB-C: from images with five points to the rates of 1:1 and 1:N."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.alignment import align_face
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.cache import file_fingerprint
from vargfacenet.eval.protocols.identification import identification, mean_rates, search
from vargfacenet.eval.protocols.templates import pair_scores, pool_templates, verify_templates
from vargfacenet.eval.template_sets import Subjects, TemplatePairs, TemplateSet
from vargfacenet.formats.images import decode_image, read_image

VERIFICATION, IDENTIFICATION = PROTOCOLS = ("1:1", "1:N")
GALLERIES = (1, 2)
_BATCH = 4096  # images that threads are given at a time


class Trials(NamedTuple):
    """Comparisons of the protocols; None for a protocol that is not asked for."""

    pairs: TemplatePairs | None
    probes: Subjects | None
    galleries: list[Subjects] | None


class Pooling(NamedTuple):
    """Options of pooling the embeddings of images into those of templates."""

    normalize_images: bool = False  # L2-normalise the embedding of each image first
    use_detector_scores: bool = False  # weight images by the detector's scores


def face_reader(template_set: TemplateSet, *, unreadable: Collection[int] = ()) -> Callable[[int], np.ndarray]:
    """Return a function from the row of an image to the aligned face, uint8 (112, 112, 3), RGB.

    Images in the rows `unreadable` are replaced by black ones. The function raises DataError, naming the image, if it is
    missing, cannot be decoded, is truncated, or its points are far outside.
    """
    black = np.zeros((*IMAGE_SHAPE[1:], 3), np.uint8)

    def read(row: int) -> np.ndarray:
        if row in unreadable:
            return black
        path = template_set.path(row)
        encoded = read_image(path)
        image = decode_image(encoded, str(path), shape=None)
        try:
            return align_face(image, template_set.points[row])
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    return read


def face_fingerprint(template_set: TemplateSet, *, unreadable: Collection[int] = ()) -> str:
    """Return the fingerprint of the images of `face_reader`: of their files, points, and rows left out."""
    rows = [row for row in range(len(template_set.names)) if row not in unreadable]
    hasher = hashlib.blake2b(file_fingerprint(map(template_set.path, rows)).encode(), digest_size=16)
    hasher.update(template_set.points.tobytes())
    hasher.update(np.array(rows, np.int64).tobytes())
    return hasher.hexdigest()


def find_unreadable(
    count: int, read: Callable[[int], np.ndarray], *, progress: Callable[[int], object] | None = None
) -> dict[int, str]:
    """Read all images, and return the reason for each row that cannot be read.

    `progress` is called with the number of images done since the last call.
    """

    def reason(row: int) -> str | None:
        try:
            read(row)
        except DataError as error:
            return str(error)
        return None

    found: dict[int, str] = {}
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as threads:
        for begin in range(0, count, _BATCH):
            rows = range(begin, min(begin + _BATCH, count))
            reasons = zip(rows, threads.map(reason, rows))
            found.update((row, why) for row, why in reasons if why)
            if progress:
                progress(len(rows))
    return found


def read_trials(template_set: TemplateSet, protocols: Sequence[str] = PROTOCOLS) -> Trials:
    """Read the comparisons of some of the `PROTOCOLS`; done before embedding, so that errors show at once.

    Raises
    ------
    DataError
        See the readers of `TemplateSet`.
    SettingError
        If a protocol is unknown.
    """
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise SettingError(f"protocol {protocol!r}: expected {' or '.join(PROTOCOLS)}")
    pairs = template_set.read_pairs() if VERIFICATION in protocols else None
    if IDENTIFICATION not in protocols:
        return Trials(pairs, None, None)
    return Trials(pairs, template_set.read_probes(), [template_set.read_gallery(number) for number in GALLERIES])


def score_templates(
    template_set: TemplateSet,
    trials: Trials,
    embeddings: np.ndarray,
    mirrored: np.ndarray | None,
    *,
    pooling: Pooling = Pooling(),  # noqa: B008 - immutable
    unreadable: Collection[int] = (),
) -> dict[str, Any]:
    """Pool embeddings into templates, and score the templates.

    The result can be saved as JSON. ``1:1`` holds the fields of `TemplateVerification`. ``1:N`` holds those of
    `Identification` for each gallery, ``G1`` and ``G2``, and ``mean``, the mean over both of ``rank`` and ``tpir``.

    Parameters
    ----------
    template_set, trials
        From `read_template_set` and `read_trials`.
    embeddings
        Of the images, float (n, d), not normalised.
    mirrored
        Of the mirrored images, float (n, d); they are added. None to leave them out.
    pooling
        Options of pooling.
    unreadable
        Rows of images to leave out of their templates.

    Raises
    ------
    DataError
        If no image of a template can be read, or an embedding is not finite.
    """
    pooled = _pool(template_set, embeddings, mirrored, pooling, unreadable)
    found: dict[str, Any] = {}
    if trials.pairs:
        scores = pair_scores(pooled, trials.pairs.first, trials.pairs.second)
        found[VERIFICATION] = dataclasses.asdict(verify_templates(scores, trials.pairs.is_same))
    if trials.probes and trials.galleries:
        probes = (pooled[trials.probes.templates], trials.probes.subjects)
        each = [
            identification(search(*probes, pooled[gallery.templates], gallery.subjects)) for gallery in trials.galleries
        ]
        found[IDENTIFICATION] = {f"G{number}": dataclasses.asdict(one) for number, one in zip(GALLERIES, each)}
        found[IDENTIFICATION]["mean"] = dict(zip(("rank", "tpir"), mean_rates(each)))
    return found


def _pool(
    template_set: TemplateSet,
    embeddings: np.ndarray,
    mirrored: np.ndarray | None,
    pooling: Pooling,
    unreadable: Collection[int],
) -> np.ndarray:
    """Return the embeddings of the templates, float32 (templates, d)."""
    kept = ~np.isin(template_set.images, list(unreadable))
    templates = template_set.templates[kept]
    gone = np.setdiff1d(template_set.ids, templates)
    if len(gone):
        raise DataError(f"{len(gone)} template(s) have no image that can be read, for example template {gone[0]}")
    return pool_templates(
        embeddings,
        mirrored,
        template_set.images[kept],
        templates,
        template_set.media[kept],
        normalize_images=pooling.normalize_images,
        weights=template_set.scores if pooling.use_detector_scores else None,
    ).embeddings
