"""Drawn faces placed on larger images with known rotation and scale, so that their points are known."""

import cv2
import numpy as np

from vargfacenet.alignment import TEMPLATE
from vargfacenet.data.synth import draw_faces
from vargfacenet.formats.images import decode_image


def drawn(identities, count):
    """Return drawn faces: for each identity a list of uint8 (112, 112, 3)."""
    faces = draw_faces(num_identities=identities, images_per_identity=count)
    images = [decode_image(encoded, "face") for _, encoded in faces]
    return [images[start : start + count] for start in range(0, len(images), count)]


def photograph(face, *, degrees=0.0, factor=1.0, shift=(0.0, 0.0), width=640, height=480):
    """Return a grey image with a rotated, scaled and shifted face in its middle, and the face's five points."""
    angle = np.deg2rad(degrees)
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width - 1, height - 1]) / 2 + shift - turn @ (55.5, 55.5)
    matrix = np.column_stack([turn, middle])
    canvas = np.full((height, width, 3), 128, np.uint8)
    cv2.warpAffine(face, matrix, (width, height), canvas, cv2.INTER_CUBIC, cv2.BORDER_TRANSPARENT)
    return canvas, TEMPLATE @ turn.T + middle


def line(name, points, separator=" "):
    """Return a line of a landmark file."""
    return separator.join([name, *(f"{value:.3f}" for value in np.ravel(points))])
