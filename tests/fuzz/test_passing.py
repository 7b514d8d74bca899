"""No damaged set passes as good: of sets with checksums nothing at all, of others what their form cannot tell."""

import os
import subprocess
import sys

import pytest

from tests.fuzz.passing import damage_pairs, damage_records


def check(outcomes, count, *, sealed):
    assert sum(outcomes.values()) == count
    if sealed:
        assert set(outcomes) <= {"reported", "harmless"}
    else:
        assert set(outcomes) <= {"reported", "harmless", "decodes"}
    assert outcomes["reported"] > 0.7 * count


@pytest.mark.parametrize("sealed", [True, False])
def test_damaged_records_are_reported_or_read_as_they_were(sealed):
    check(damage_records(40, sealed=sealed, seed=1), 40, sealed=sealed)


def test_damaged_verification_sets_are_reported_or_read_as_they_were():
    check(damage_pairs(60, sealed=True, seed=1), 60, sealed=True)


@pytest.mark.slow
def test_a_thousand_damages_of_each_neither_end_nor_hang_the_process_nor_pass_as_good():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.passing", "1000"],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines[:3]:
        assert "'wrong'" not in line
    assert not any("'decodes'" in line for line in lines if "with checksums" in line)
