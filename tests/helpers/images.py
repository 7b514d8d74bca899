"""Images that tests make."""

import struct
import zlib

import numpy as np


def image(identity, number):
    """Return a 112x112 image of coloured stripes whose direction and colour depend on the identity."""
    random = np.random.RandomState(identity * 1000 + number)
    y, x = np.mgrid[:112, :112] / 112
    angle = identity * 0.7
    wave = np.sin(12 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(-0.5, 0.5))
    colour = np.array([np.cos(identity), np.sin(identity), np.cos(2 * identity)])
    values = 128 + 70 * wave[:, :, None] * colour + random.normal(0, 8, (112, 112, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def empty_png(width, height):
    """Return the header of an image of any size, in some dozens of bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">II", zlib.crc32(header), 0) + b"IDAT"
