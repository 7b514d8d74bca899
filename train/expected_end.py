"""When a run is expected to end, by the time that its updates have taken."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 5.0  # of updates that the first estimate takes, so that it is not of two or three of them
_UPDATES = 20  # that suffice, however fast they are


class ExpectedEnd:
    """The expected end of a run. The first update of a process is not counted: it also prepares.

    Verifications and saves count as soon as one was made.

    Parameters
    ----------
    updates
        Updates of the whole run, all generations together.
    clock
        Seconds since the epoch.
    """

    def __init__(self, updates: int, *, clock: Callable[[], float] = time.time) -> None:
        self._updates, self._clock = updates, clock
        self._first: tuple[int, float] | None = None
        self._left: float | None = None

    def measure(self, update: int) -> bool:
        """Take the time after an update, counted over all generations; return True at the first estimate."""
        now = self._clock()
        if self._first is None:
            self._first = update, now
            return False
        made, seconds = update - self._first[0], now - self._first[1]
        was_known = self._left is not None
        if was_known or made >= _UPDATES or (made >= 2 and seconds >= _SECONDS):
            self._left = (self._updates - update) * seconds / made
        return self._left is not None and not was_known

    @property
    def time_of_day(self) -> str | None:
        """The end as in ``14:32``, with the date where that is not today; None before the first estimate."""
        if self._left is None:
            return None
        now, end = time.localtime(self._clock()), time.localtime(self._clock() + self._left)
        is_today = (now.tm_year, now.tm_yday) == (end.tm_year, end.tm_yday)
        return time.strftime("%H:%M" if is_today else "%a %d %b %H:%M", end)

    @property
    def duration(self) -> str | None:
        """The time that is left, as in ``3 h 05 min``; None before the first estimate."""
        return None if self._left is None else in_words(self._left)


def in_words(seconds: float) -> str:
    """Return a duration in the two largest units that it has, such as ``2 d 4 h`` or ``45 s``."""
    whole = round(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
