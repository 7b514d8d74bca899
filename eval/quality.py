"""Quality of a face image, measured by its pixels."""

from __future__ import annotations

import cv2
import numpy as np


def sharpness(image: np.ndarray) -> float:
    """Return the variance of the Laplacian of an RGB image, uint8 (height, width, 3) [Pech-Pacheco et al., 2000].

    Larger is sharper; 0 is a single colour.
    """
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
