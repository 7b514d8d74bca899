"""Progress bars, and log lines that do not split them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 30


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Return a tqdm bar on standard error; where that is not a terminal, it logs at most two lines a minute."""
    import tqdm  # here, so that doctor can say that it is missing

    if sys.stderr.isatty():
        return tqdm.tqdm(items, file=sys.stderr, **options)
    return _logging_bar(tqdm.tqdm)(items, **options)


class LogHandler(logging.StreamHandler):
    """Writes log lines to standard error; on a terminal, bars are cleared before a line and drawn again below it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")  # loaded where there are bars
        if tqdm is None or not self.stream.isatty():
            super().emit(record)
            return
        try:
            tqdm.tqdm.write(self.format(record), file=self.stream)
        except Exception:  # noqa: BLE001 - as handlers of the standard library do
            self.handleError(record)


def _logging_bar(tqdm: Any) -> Any:
    class LoggingBar(tqdm):
        """Logs what tqdm would draw."""

        def __init__(self, items: Iterable[Any] | None, **options: Any) -> None:
            quiet = {"file": sys.stderr, "mininterval": _SECONDS_BETWEEN_LINES, "ncols": 0, "leave": False}
            super().__init__(items, **{**options, **quiet})

        logged = 0.0

        def display(self, *_: Any, **__: Any) -> None:
            # tqdm's own thread asks more often than it should.
            now = time.time()
            if self.n and now - max(self.start_t, self.logged) >= _SECONDS_BETWEEN_LINES:
                self.logged = now
                log.info("%s", self)

    return LoggingBar
