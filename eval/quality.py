"""How good a face picture is, as far as pixels say."""

import cv2


def sharpness(picture):
    """Variance of the Laplacian of the grey picture (Pech-Pacheco et al., 2000): larger is sharper, 0 is one colour.

    Parameters
    ----------
    picture : uint8 array (height, width, 3)
        RGB.
    """
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
