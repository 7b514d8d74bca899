"""Every reader of foreign bytes, on damages that chance decides the same way each time; longer: ``make fuzz``."""

import time

import numpy as np
import pytest

from tests.fuzz.damages import damage
from tests.fuzz.targets import TARGETS, attempt

DAMAGES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_whole_files_are_taken(name):
    for seed in TARGETS[name].seeds():
        assert attempt(TARGETS[name], seed) is None


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_taken_or_refused_and_nothing_else(name):
    target, random, refused = TARGETS[name], np.random.default_rng(0), 0
    seeds = target.seeds()
    for number in range(DAMAGES):
        content = seeds[number % len(seeds)]
        for _ in range(1 + number % 3):
            _, content = damage(content or b"\0", random)
        begin = time.process_time()  # which a busy machine does not lengthen
        refused += attempt(target, content) is not None
        assert time.process_time() - begin < 10
    assert refused > DAMAGES / 20  # the damages are ones that matter


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_of_no_form_are_taken_or_refused_and_nothing_else(name):
    random = np.random.default_rng(1)
    for length in (0, 1, 2, 7, 8, 24, 100, 5000):
        attempt(TARGETS[name], random.bytes(length))
