"""Two faces in one image, for a teacher to say what it sees: breadth where faces are few.

A teacher and its student who see the same mixed image need no label for it [Beyer et al., arXiv 2106.05237].
"""

import collections


def mix_faces(images, plan):
    """Mixes images, float32 array (N, channels, height, width), in place, by what `plan_mix` says of the first of them."""
    originals = images.copy()
    for row, recipe in enumerate(plan):
        if recipe is not None:
            images[row] = recipe.mix(originals[row], originals[recipe.other])


class Blend(collections.namedtuple("Blend", "other weight")):
    """An image and, by a weight of 0 .. 0.5, that of row `other`."""

    __slots__ = ()

    def mix(self, image, other):
        """The mixed image, from float32 arrays (channels, height, width)."""
        return image + self.weight * (other - image)


class Patch(collections.namedtuple("Patch", "other place")):
    """An image with a rectangle (`place`, slices of it) from that of row `other`."""

    __slots__ = ()

    def mix(self, image, other):
        """As of `Blend`."""
        image = image.copy()
        image[self.place] = other[self.place]
        return image


def plan_mix(shape, share, random):
    """Which images of a batch are mixed, with which others, and how: it needs no image to say so.

    Half of those mixed are blends [mixup, Zhang et al., arXiv 1710.09412], half get a rectangle of the other image
    [CutMix, Yun et al., arXiv 1905.04899]; as faces are aligned, that is one person's eyes over another's mouth.

    Parameters
    ----------
    shape : tuple of int
        (N, channels, height, width) of the batch.
    share : float
        Probability, 0 .. 1, of each image to be mixed.
    random : numpy.random.Generator
        Decides everything.

    Returns
    -------
    list of Blend, Patch or None
        For each row; None where the image stays as it is.
    """
    count, _, height, width = shape
    plan = []
    for other in random.permutation(count).tolist():
        is_mixed, is_blend = random.random(2) < (share, 0.5)
        if not is_mixed:
            plan.append(None)
        elif is_blend:
            plan.append(Blend(other, random.uniform(0, 0.5)))
        else:
            high, wide = (int(side * random.uniform(0.25, 0.75)) for side in (height, width))
            top, left = random.integers(0, height - high + 1), random.integers(0, width - wide + 1)
            place = (slice(None), slice(top, top + high), slice(left, left + wide))
            plan.append(Patch(other, place))
    return plan
