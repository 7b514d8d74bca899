"""The members of a group and the rules by which the group continues or stops. No sockets, and no clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vargfacenet.errors import ClusterError

JOINING = "joining the parameter store"  # a worker's activity while it waits there


class Membership:
    """State of the members of a group.

    Times are in seconds of any monotonic clock, which the caller reads.

    Parameters
    ----------
    size
        Number of members.
    timeout
        Seconds until all members must have joined. After that, a member that is silent for so long counts as lost, and
        the parameter store must form within that time once all workers wait for it.
    stall
        Seconds without progress after which workers that all wait count as stuck.
    now
        The present time.

    Attributes
    ----------
    reason
        Why the group must stop: the first failure; None while it may continue.
    """

    def __init__(self, size: int, timeout: float, stall: float, now: float) -> None:
        self._size, self._timeout, self._stall = size, timeout, stall
        self._begun = self._changed = now
        self._heard: dict[int, float] = {}
        self._states: dict[int, tuple[str, bool]] = {}
        self._addresses: dict[int, str] = {}
        self._done: set[int] = set()
        self.reason: str | None = None

    def join(self, rank: int, size: int, address: str, now: float) -> None:
        """Enter a member; ClusterError where it cannot belong to this group."""
        if size != self._size:
            raise ClusterError(f"worker {rank} was started with --of {size}, worker 0 with --of {self._size}")
        if not 0 <= rank < self._size:
            raise ClusterError(f"worker {rank}: expected a --rank of 0 to {self._size - 1}")
        if rank in self._heard:
            raise ClusterError(
                f"worker {rank} is here already, from {self._addresses[rank]}: each needs its own --rank"
            )
        self._heard[rank], self._addresses[rank], self._changed = now, address, now

    @property
    def complete(self) -> bool:
        """True once all members have joined."""
        return len(self._heard) == self._size

    @property
    def finished(self) -> bool:
        """True once all workers have ended successfully."""
        return len(self._done) == self._size

    def receive(self, rank: int, message: Mapping[str, Any], now: float) -> None:
        """Take a member's report: ``state`` (activity, whether it waits for others), ``failed`` (text) or ``done``."""
        self._heard[rank] = now
        if "failed" in message:
            self.stop(str(message["failed"]))
        if message.get("done"):
            self._done.add(rank)
        state = message.get("state")
        if state is not None and state != self._states.get(rank):
            self._states[rank], self._changed = state, now

    def disconnect(self, rank: int) -> None:
        """Record that the connection of a member has ended."""
        if rank not in self._done:
            self.stop(f"worker {rank}: the connection to its machine ({self._addresses[rank]}) was lost")

    def stop(self, reason: str) -> None:
        """Stop the group, unless it is stopped already."""
        self.reason = self.reason or reason

    def check(self, now: float) -> None:
        """Apply the time limits."""
        if not self.complete:
            if now - self._begun > self._timeout:
                missing = [str(rank) for rank in range(self._size) if rank not in self._heard]
                self.stop(
                    f"{len(self._heard)} of {self._size} workers are there after {self._timeout:g} s; missing: "
                    f"{', '.join(missing)}. Start every one of them within that time, or give a longer --timeout"
                )
            return
        for rank, heard in self._heard.items():
            if now - heard > self._timeout and rank not in self._done:
                self.stop(
                    f"worker {rank}: nothing was heard of its machine ({self._addresses[rank]}) for {now - heard:.0f} s"
                )
        self._check_progress(now)

    def _check_progress(self, now: float) -> None:
        """Stop the group where all workers wait for one another longer than they may."""
        working = [self._states[rank] for rank in sorted(self._states) if rank not in self._done]
        if not working or len(self._states) < self._size or not all(waits for _, waits in working):
            return
        joining = any(what == JOINING for what, _ in working)
        limit = self._timeout if joining else self._stall
        if now - self._changed <= limit:
            return
        if joining:
            self.stop(
                f"the parameter store has not formed within {limit:g} s though all workers are there: machines must reach "
                "one another on the ports that follow --port, see docs/scaling-machines.md"
            )
            return
        at = ", ".join(f"worker {rank} at {self._states[rank][0]}" for rank in sorted(self._states))
        self.stop(
            f"no worker got on for {limit:g} s, though all are alive ({at}): a parameter server is out of reach, "
            "or an update takes longer than --stall allows"
        )
