"""Damage training and verification sets, and count what is reported, harmless, or accepted as good."""

import collections
import pathlib
import sys
import tempfile

import numpy as np

from tests.fuzz.damages import damage
from vargfacenet.data import RecordSet
from vargfacenet.data.check import check_records
from vargfacenet.data.synth import draw_faces, draw_pairs
from vargfacenet.data.writer import write_records
from vargfacenet.errors import DataError
from vargfacenet.eval.byte_pickle import load
from vargfacenet.eval.pairs import check_pairs, read_pairs, write_pairs

FILES = ("train.rec", "train.idx", "property")


def damage_records(count, *, sealed, seed=0):
    """Damage the ``.rec`` or ``.idx`` of a set of 24 drawn faces `count` times, and read it as training does.

    Returns the numbers of ``reported`` (by `check_records`), ``harmless`` (everything that is read is unchanged),
    ``decodes`` (an image changed without a report) and ``wrong`` (anything else changed without a report).
    """
    folder, outcomes = pathlib.Path(tempfile.mkdtemp(prefix="vargfacenet-damage-")), collections.Counter()
    write_records(folder, draw_faces(num_identities=6, images_per_identity=4, seed=0))
    if not sealed:
        _take_checksums(folder)
    whole = {name: (folder / name).read_bytes() for name in FILES}
    random, truth = np.random.default_rng(seed), _faces(folder)
    for number in range(count):
        name = FILES[number % 2]
        damaged = whole[name]
        while damaged == whole[name]:
            _, damaged = damage(whole[name], random)
        (folder / name).write_bytes(damaged)
        outcomes[_outcome(folder, truth)] += 1
        (folder / name).write_bytes(whole[name])
    return dict(outcomes)


def damage_pairs(count, *, sealed, seed=0):
    """Damage a ``.bin`` of 20 pairs of drawn faces, as `damage_records`; an unreported change of truth is ``wrong``."""
    folder, outcomes = pathlib.Path(tempfile.mkdtemp(prefix="vargfacenet-damage-")), collections.Counter()
    path = folder / "set.bin"
    write_pairs(path, *draw_pairs(num_identities=6, images_per_identity=4, num_pairs=20, seed=0, first_identity=0))
    whole = path.read_bytes()
    if not sealed:
        whole = whole[: load(whole)[1]]
    path.write_bytes(whole)
    random, truth = np.random.default_rng(seed), read_pairs(path)
    for _ in range(count):
        damaged = whole
        while damaged == whole:
            _, damaged = damage(whole, random)
        path.write_bytes(damaged)
        outcomes[_pairs_outcome(path, truth)] += 1
    return dict(outcomes)


def _outcome(folder, truth):
    try:
        reported = bool(check_records(folder).bad)
    except DataError:
        reported = True
    found = _faces(folder)
    if reported:
        # Reported records may be skipped; the others must have the right labels.
        labels_right = found is None or all(truth.get(key, (None,))[0] == label for key, (label, _) in found.items())
        return "reported" if labels_right else "wrong"
    if found is None or found.keys() != truth.keys() or any(truth[key][0] != found[key][0] for key in truth):
        return "wrong"
    return "harmless" if all(np.array_equal(truth[key][1], found[key][1]) for key in truth) else "decodes"


def _faces(folder):
    """Return identity and image of each key that training would receive; None where the set is refused."""
    try:
        records = RecordSet(folder)
    except DataError:
        return None
    found = {}
    for key in records.keys.tolist():
        try:
            image, identity = records.read_face(key)
        except DataError:
            continue
        found[key] = identity, image
    records.close()
    return found


def _pairs_outcome(path, truth):
    try:
        pairs = read_pairs(path)
        if check_pairs(pairs):
            return "reported"
    except DataError:
        return "reported"
    if pairs.is_same.tolist() != truth.is_same.tolist() or len(pairs.images) != len(truth.images):
        return "wrong"
    return "harmless" if pairs.images == truth.images else "decodes"


def _take_checksums(folder):
    content = bytearray((folder / "train.rec").read_bytes())
    for line in (folder / "train.idx").read_text().splitlines():
        offset = int(line.split()[1])
        content[offset + 24 : offset + 32] = bytes(8)
    (folder / "train.rec").write_bytes(content)


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for kind, run in (("rec/idx", damage_records), ("bin", damage_pairs)):
        for sealed in (True, False):
            checksums = "with checksums" if sealed else "without"
            sys.stdout.write(f"{kind:8} {checksums:15} {run(count, sealed=sealed, seed=seed)}\n")
            sys.stdout.flush()
