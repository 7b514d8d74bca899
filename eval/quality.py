"""How good a face image is, as far as pixels say."""

import cv2


def sharpness(image):
    """Variance of the Laplacian of the grey image (Pech-Pacheco et al., 2000): larger is sharper, 0 is one colour.

    Parameters
    ----------
    image : uint8 array (height, width, 3)
        RGB.
    """
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
