"""The margin losses as their papers print them, in NumPy and double precision, one sample after another."""

import math

import numpy as np


def l2_normalize(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cross_entropy(logits, label):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(label)), label]


def cosines_of(embedding, weight):
    return l2_normalize(embedding) @ l2_normalize(weight).T


def with_targets(cosines, label, targets):
    changed = cosines.copy()
    for row, (column, target) in enumerate(zip(label, targets)):
        changed[row, column] = target
    return changed


def adaface(embedding, weight, label, *, scale, mean, deviation, m=0.4, h=0.333, norms=None):
    """`mean` and `deviation` are those that the update reads; `norms` stand still where a gradient is wanted."""
    cosines = cosines_of(embedding, weight)
    norms = np.linalg.norm(embedding, axis=1) if norms is None else norms
    targets = []
    for row, column in enumerate(label):
        z = min(1, max(-1, (min(100, max(0.001, norms[row])) - mean) / (deviation + 1e-3) * h))
        angle = min(math.pi - 1e-3, max(1e-3, math.acos(min(1, max(-1, cosines[row, column]))) - m * z))
        targets.append(math.cos(angle) - (m + m * z))
    return cross_entropy(scale * with_targets(cosines, label, targets), label)


def elasticface(embedding, weight, label, draws, *, scale, arc):
    cosines = cosines_of(embedding, weight)
    targets = [
        math.cos(math.acos(cosines[row, column]) + draws[row]) if arc else cosines[row, column] - draws[row]
        for row, column in enumerate(label)
    ]
    return cross_entropy(scale * with_targets(cosines, label, targets), label)


def curricularface(embedding, weight, label, *, scale, t, m=0.5):
    cosines = cosines_of(embedding, weight)
    changed = cosines.copy()
    for row, own in enumerate(label):
        cosine = cosines[row, own]
        added = math.cos(math.acos(min(1, max(-1, cosine))) + m)
        for column, other in enumerate(cosines[row]):
            if column == own:
                changed[row, column] = added if cosine > math.cos(math.pi - m) else cosine - m * math.sin(math.pi - m)
            elif other > added:
                changed[row, column] = other * (t + other)
    return cross_entropy(scale * changed, label)


def magface(embedding, weight, label, *, scale, low=10, high=110, margin_low=0.45, margin_high=0.8, weight_of_norm=35):
    cosines, norms = cosines_of(embedding, weight), np.clip(np.linalg.norm(embedding, axis=1), low, high)
    targets = []
    for row, column in enumerate(label):
        m = (margin_high - margin_low) / (high - low) * (norms[row] - low) + margin_low
        cosine = cosines[row, column]
        targets.append(math.cos(math.acos(min(1, cosine)) + m) if cosine > 0 else cosine)
    identity = cross_entropy(scale * with_targets(cosines, label, targets), label)
    return identity + weight_of_norm * (norms / high**2 + 1 / norms)


def margin_distillation(embedding, weight, label, teacher, *, scale, high=0.5, low=0.2):
    cosines = cosines_of(embedding, weight)
    sure = (l2_normalize(teacher) * l2_normalize(weight)[label]).sum(axis=1)
    margins = (high - low) / sure.max() * sure + low
    targets = [math.cos(math.acos(cosines[row, column]) + margins[row]) for row, column in enumerate(label)]
    return cross_entropy(scale * with_targets(cosines, label, targets), label)


def subcentre_arcface(embedding, weight, label, *, scale, centres, m=0.5):
    identities = len(weight) // centres
    every = cosines_of(embedding, weight)
    cosines = np.array([[max(row[c * centres : (c + 1) * centres]) for c in range(identities)] for row in every])
    targets = [math.cos(math.acos(cosines[row, column]) + m) for row, column in enumerate(label)]
    return cross_entropy(scale * with_targets(cosines, label, targets), label)


def adadistill(centres, student, teacher, label, *, scale, m=0.45, weighted=True):
    """The loss, and the centres after the batch; every `a` is of the centres before it."""
    s, t, before = l2_normalize(student), l2_normalize(teacher), l2_normalize(centres)
    after = centres.copy()
    for row, own in enumerate(label):
        a = s[row] @ t[row]
        if weighted:
            a *= min(1, max(1e-6, before[own] @ t[row]))
        a = min(1, max(1e-6, a))
        after[own] = a * after[own] + (1 - a) * t[row]
    cosines = cosines_of(student, after)
    targets = [math.cos(math.acos(cosines[row, column]) + m) for row, column in enumerate(label)]
    return cross_entropy(scale * with_targets(cosines, label, targets), label), after


def finite_differences(loss, values, step=1e-6):
    found = np.zeros_like(values, dtype=np.float64)
    for place in np.ndindex(values.shape):
        up, down = values.astype(np.float64), values.astype(np.float64)
        up[place] += step
        down[place] -= step
        found[place] = (loss(up) - loss(down)) / (2 * step)
    return found
