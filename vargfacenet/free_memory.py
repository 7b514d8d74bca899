"""The memory of this machine, and what of it this process may still take: limits of containers count."""

from __future__ import annotations

import os
import pathlib

_ROOT = pathlib.Path("/")
_CGROUPS = pathlib.Path("sys", "fs", "cgroup")
_FREED = ("inactive_file", "active_file")  # pages of files, which the kernel drops where memory is asked for


def host_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(root: pathlib.Path = _ROOT) -> int:
    """Return the bytes that this process may still take: free on the machine, and within its control groups' limits.

    `root` is where ``proc`` and ``sys`` are.
    """
    found = [host_memory() if root == _ROOT else 1 << 62]
    try:
        lines = (root / "proc" / "meminfo").read_text().splitlines()
        found += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):  # not Linux, or not as Linux writes it
        pass
    return max(0, min([*found, *_left_in_groups(root)]))


def _left_in_groups(root: pathlib.Path) -> list[int]:
    """Return what each control group that this process is in, and each above it, has left."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, names, prefix = root / _CGROUPS, ("memory.max", "memory.current"), ""
        elif "memory" in controllers.split(","):
            top = root / _CGROUPS / "memory"
            names, prefix = ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"
        else:
            continue
        # In a container the path may be that of the host; its own group is then the mount.
        parts = [part for part in path.split("/") if part and part != ".."]
        folders = [top.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
        found += [left for folder in folders if (left := _left_in_group(folder, names, prefix)) is not None]
    return found


def _left_in_group(folder: pathlib.Path, names: tuple[str, str], prefix: str) -> int | None:
    """Return the bytes that a group has left; None where it has no limit."""
    try:
        limit, used = (int((folder / name).read_text()) for name in names)
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not there, or "max": no limit
        return None
    return limit - used + sum(int(statistics.get(prefix + name, 0)) for name in _FREED)
