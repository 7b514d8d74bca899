"""A small set in the layout of IJB: drawn faces on larger canvases, in templates of photographs and videos."""

import collections

import cv2
import numpy as np

from vargfacenet.alignment import TEMPLATE
from vargfacenet.data.synth import draw_faces
from vargfacenet.formats.images import decode_image, encode_png

IDENTITIES = 12
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"

Row = collections.namedtuple("Row", "name template subject medium frame")


def make_ijb_set(folder, name="ijbc", galleries=("G1", "G2")):
    """Write the set, and return its faces as drawn, uint8 (112, 112, 3), by the names of the images.

    Each identity has a gallery template, of a photograph and a video of two frames, and two probe templates, of two
    photographs and of a video of two frames. The first half of the identities is in the first gallery. Media recur in the
    templates of an identity, and template numbers are neither dense nor in order.
    """
    random = np.random.RandomState(0)
    drawn = [decode_image(encoded, "a drawn face") for _, encoded in _faces(7 * IDENTITIES)]
    rows = []
    for identity in range(IDENTITIES):
        for kind, media in enumerate(((0, 1, 1), (2, 3), (1, 1))):
            template = 1000 - 13 * (3 * identity + kind)
            rows += [
                Row(f"{len(rows) + n + 1}.png", template, 50 + identity, 400 + 4 * identity + medium, n)
                for n, medium in enumerate(media)
            ]
    meta, images = folder / "meta", folder / "loose_crop"
    meta.mkdir(parents=True)
    images.mkdir()
    points = {}
    for row, face in zip(rows, drawn):
        canvas, points[row.name] = _placed(face, random)
        (images / row.name).write_bytes(encode_png(canvas))
    scores = random.uniform(0.3, 1, len(rows)).round(3)
    lines = [
        " ".join([row.name, *(f"{value:.3f}" for value in points[row.name].ravel()), f"{score:.3f}"])
        for row, score in zip(rows, scores)
    ]
    _write(meta / f"{name}_name_5pts_score.txt", lines)
    # In another order, so that names are what counts.
    shuffled = [rows[place] for place in random.permutation(len(rows))]
    _write(meta / f"{name}_face_tid_mid.txt", [f"{row.name} {row.template} {row.medium}" for row in shuffled])
    subjects = {row.template: row.subject for row in rows}
    kinds = [[1000 - 13 * (3 * identity + kind) for identity in range(IDENTITIES)] for kind in range(3)]
    gallery, probes = kinds[0], [*kinds[1], *kinds[2]]
    pairs = [(one, other, int(subjects[one] == subjects[other])) for one in gallery for other in probes]
    _write(meta / f"{name}_template_pair_label.txt", [" ".join(map(str, pairs[place])) for place in _mixed(pairs)])
    halves = (gallery[: IDENTITIES // 2], gallery[IDENTITIES // 2 :])
    for part, templates in zip((*(f"gallery_{one}" for one in galleries), "probe_mixed"), (*halves, probes)):
        listed = [row for row in rows if row.template in templates]
        text = "".join(f"{row.template},{row.subject},frames/{row.name},7,1,2,30,40\n" for row in listed)
        (meta / f"{name}_1N_{part}.csv").write_text(HEADER + text)
    return {row.name: face for row, face in zip(rows, drawn)}


def _faces(count):
    return draw_faces(num_identities=IDENTITIES, images_per_identity=count // IDENTITIES, seed=3)


def _placed(face, random):
    """Put a face on a larger canvas, rotated, scaled and shifted; also returns its five points."""
    scale, angle = random.uniform(1.0, 1.8), random.uniform(-0.4, 0.4)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, random.uniform(100, 160, 2) - turn @ (56, 56)])
    canvas = cv2.warpAffine(face, matrix, (280, 260), borderMode=cv2.BORDER_REPLICATE)
    return canvas, TEMPLATE @ turn.T + matrix[:, 2]


def _mixed(items):
    return np.random.RandomState(1).permutation(len(items))


def _write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
