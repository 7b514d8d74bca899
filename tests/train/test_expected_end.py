"""The expected end of a run, by a clock that the test sets."""

import time

import pytest

from vargfacenet.train.expected_end import ExpectedEnd, in_words


class Clock:
    def __init__(self):
        self.now = time.mktime((2026, 3, 2, 12, 0, 0, 0, 0, -1))

    def __call__(self):
        return self.now


def test_the_end_is_the_speed_after_the_first_update_times_what_is_left():
    clock = Clock()
    end = ExpectedEnd(1000, clock=clock)
    first = []
    for update in range(101, 106):
        clock.now += 60 if update == 101 else 2  # the first one also prepares
        first.append(end.measure(update))
    assert first == [False, False, False, True, False]  # six seconds after the first
    assert end.duration == in_words(2 * (1000 - 105)) == "29 min 50 s"
    assert end.time_of_day == time.strftime("%H:%M", time.localtime(clock.now + 2 * 895))


def test_twenty_updates_suffice_however_fast_they_are():
    clock = Clock()
    end = ExpectedEnd(100, clock=clock)
    found = []
    for update in range(1, 30):
        clock.now += 0.01
        found.append(end.measure(update))
    assert found.index(True) == 20
    assert sum(found) == 1


def test_an_end_on_another_day_has_its_date():
    clock = Clock()
    end = ExpectedEnd(10_000, clock=clock)
    for update in (1, 2, 3):
        clock.now += 20
        end.measure(update)
    assert end.duration == "2 d 7 h"
    assert end.time_of_day == time.strftime("%a %d %b %H:%M", time.localtime(clock.now + 20 * 9997))


def test_before_the_first_estimate_there_is_none():
    end = ExpectedEnd(10)
    assert not end.measure(1)
    assert end.time_of_day is end.duration is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (45, "45 s"), (61, "1 min 01 s"), (3 * 3600 + 300, "3 h 05 min"), (100 * 3600, "4 d 4 h")],
)
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words
