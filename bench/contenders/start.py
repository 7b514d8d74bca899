"""Start a new Python process in each turn."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any


def prepare(*, words: list[str]) -> Callable[[], dict[str, Any]]:
    """Prepare to start Python with the arguments `words`."""

    def turn() -> dict[str, Any]:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return {"items": 1}

    return turn
