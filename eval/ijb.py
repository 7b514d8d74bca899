"""IJB-B and IJB-C: from images with five points to the rates of the 1:1 and the 1:N protocol."""

import collections
import concurrent.futures
import dataclasses
import hashlib

import numpy as np

from vargfacenet import IMAGE_SHAPE
from vargfacenet.alignment import align_face
from vargfacenet.environment import usable_cores
from vargfacenet.errors import DataError, SettingError
from vargfacenet.eval.cache import file_fingerprint
from vargfacenet.eval.protocols.identification import FPIRS, RANKS, identification, mean_rates, search
from vargfacenet.eval.protocols.roc import FARS
from vargfacenet.eval.protocols.templates import pair_scores, pool_templates, verify_templates
from vargfacenet.formats.images import decode_image, read_image

VERIFICATION, IDENTIFICATION = PROTOCOLS = ("1:1", "1:N")
GALLERIES = (1, 2)
_AHEAD = 4096  # images that threads are given at a time

Trials = collections.namedtuple("Trials", "pairs probes galleries")
Trials.__doc__ = (
    """What is compared: TemplatePairs; probes (Subjects) and galleries (list of Subjects); None where not asked for."""
)


def face_reader(template_set, *, unreadable=()):
    """What gives an image of a set by its row, aligned by its points, as embedding takes it.

    Parameters
    ----------
    template_set : TemplateSet
    unreadable : collection of int
        Rows of images in whose place a black one is given.

    Returns
    -------
    callable
        Row to uint8 (112, 112, 3), RGB; DataError names an image that is missing, none, cut, or far from its points.
    """
    black = np.zeros((*IMAGE_SHAPE[1:], 3), np.uint8)

    def read(row):
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


def face_fingerprint(template_set, *, unreadable=()):
    """A digest (str) of what `face_reader` gives: image files as `file_fingerprint` takes them, points, and rows left out."""
    rows = [row for row in range(len(template_set.names)) if row not in unreadable]
    digest = hashlib.blake2b(file_fingerprint(map(template_set.path, rows)).encode(), digest_size=16)
    digest.update(template_set.points.tobytes())
    digest.update(np.array(rows, np.int64).tobytes())
    return digest.hexdigest()


def find_unreadable(count, read, *, progress=None):
    """Reads all images: dict of row (int) to why it cannot be read (str).

    `progress` is called with the number of images done since the last call.
    """

    def reason(row):
        try:
            read(row)
        except DataError as error:
            return str(error)
        return None

    found = {}
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as threads:
        for begin in range(0, count, _AHEAD):
            rows = range(begin, min(begin + _AHEAD, count))
            reasons = zip(rows, threads.map(reason, rows))
            found.update((row, why) for row, why in reasons if why)
            if progress:
                progress(len(rows))
    return found


def read_trials(template_set, protocols=PROTOCOLS):
    """Reads what protocols compare, before the long work, so that what is wrong with it shows at once.

    Parameters
    ----------
    template_set : TemplateSet
    protocols : sequence of str
        Of `PROTOCOLS`.

    Returns
    -------
    Trials

    Raises
    ------
    DataError
        As of the set's readers.
    SettingError
        For a protocol that there is not.
    """
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise SettingError(f"protocol {protocol!r}: expected {' or '.join(PROTOCOLS)}")
    pairs = template_set.read_pairs() if VERIFICATION in protocols else None
    if IDENTIFICATION not in protocols:
        return Trials(pairs, None, None)
    return Trials(pairs, template_set.read_probes(), [template_set.read_gallery(number) for number in GALLERIES])


def score_templates(
    template_set,
    trials,
    embeddings,
    mirrored,
    *,
    unit=False,
    detector_scores=False,
    unreadable=(),
    fars=FARS,
    ranks=RANKS,
    fpirs=FPIRS,
):
    """Pools embeddings into templates, and scores them.

    Parameters
    ----------
    template_set, trials : TemplateSet, Trials
        As of `read_template_set` and `read_trials`.
    embeddings : float array (n, d)
        Of the set's images, not normalised.
    mirrored : float array (n, d) or None
        Of their mirrors, which are added; None to leave them out.
    unit, detector_scores : bool
        As `unit` of `pool_templates`; whether images are weighted by the detector's scores.
    unreadable : collection of int
        Rows of images that are left out of their templates.
    fars, ranks, fpirs : sequences
        Of `verify_templates` and `identification`.

    Returns
    -------
    dict
        As JSON takes it. Of ``1:1`` the fields of TemplateVerification; of ``1:N`` those of Identification for each gallery,
        ``G1`` and ``G2``, and ``mean``, the mean over both of ``rank`` and ``tpir``.

    Raises
    ------
    DataError
        Where no image of a template can be read, or an embedding is not finite.
    """
    pooled, found = _pool(template_set, embeddings, mirrored, unit, detector_scores, unreadable), {}
    if trials.pairs:
        scores = pair_scores(pooled, trials.pairs.first, trials.pairs.second)
        found[VERIFICATION] = dataclasses.asdict(verify_templates(scores, trials.pairs.is_same, fars=fars))
    if trials.probes:
        probes = (pooled[trials.probes.templates], trials.probes.subjects)
        each = [
            identification(search(*probes, pooled[gallery.templates], gallery.subjects), ranks=ranks, fpirs=fpirs)
            for gallery in trials.galleries
        ]
        found[IDENTIFICATION] = {f"G{number}": dataclasses.asdict(one) for number, one in zip(GALLERIES, each)}
        found[IDENTIFICATION]["mean"] = dict(zip(("rank", "tpir"), mean_rates(each)))
    return found


def _pool(template_set, embeddings, mirrored, unit, detector_scores, unreadable):
    """Embeddings of the set's templates: float32 (templates, d)."""
    kept = ~np.isin(template_set.images, list(unreadable))
    templates = template_set.templates[kept]
    gone = np.setdiff1d(template_set.ids, templates)
    if len(gone):
        raise DataError(f"{len(gone)} template(s) have no image that can be read, such as template {gone[0]}")
    scores = template_set.scores if detector_scores else None
    columns = (template_set.images[kept], templates, template_set.media[kept])
    return pool_templates(embeddings, mirrored, *columns, unit=unit, scores=scores).embeddings
