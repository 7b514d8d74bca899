"""Two faces in one picture, for a teacher to say what it sees: breadth where faces are few.

A teacher and its student who see the same mixed picture need no label for it [Beyer et al., arXiv 2106.05237].
"""


def mix_faces(pictures, share, random):
    """Mixes some pictures of a batch with others of it, in place.

    Half of those mixed are blends [mixup, Zhang et al., arXiv 1710.09412], half get a rectangle of the other picture
    [CutMix, Yun et al., arXiv 1905.04899]; as faces are aligned, that is one person's eyes over another's mouth.

    Parameters
    ----------
    pictures : float32 array (N, channels, height, width)
        The batch.
    share : float
        Probability, 0 .. 1, of each picture to be mixed.
    random : numpy.random.Generator
        Decides everything.
    """
    count, _, height, width = pictures.shape
    originals, others = pictures.copy(), random.permutation(count)
    for row, other in enumerate(others):
        is_mixed, is_blend = random.random(2) < (share, 0.5)
        if not is_mixed:
            continue
        if is_blend:
            weight = random.uniform(0, 0.5)
            pictures[row] += weight * (originals[other] - pictures[row])
        else:
            high, wide = (int(side * random.uniform(0.25, 0.75)) for side in (height, width))
            top, left = random.integers(0, height - high + 1), random.integers(0, width - wide + 1)
            place = (slice(None), slice(top, top + high), slice(left, left + wide))
            pictures[row][place] = originals[other][place]
