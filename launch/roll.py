"""Who is there and how they fare: the rules by which a group of workers goes on or stops. No sockets, no clock of its own."""

from vargfacenet.errors import ClusterError

JOINING = "joining the parameter store"


class Roll:
    """What is known of the members of a group.

    Parameters
    ----------
    size : int
        Members there must be.
    timeout : float
        Seconds until all must be there, after which a silent one counts as gone, and in which the parameter store must
        have formed once all workers wait for it.
    stall : float
        Seconds after which workers that all wait and none of whom gets on count as stuck.
    now : float
        Seconds, of any monotonic clock.

    Attributes
    ----------
    reason : str or None
        Why the group must stop: the first thing that went wrong.
    """

    def __init__(self, size, timeout, stall, now):
        self._size, self._timeout, self._stall = size, timeout, stall
        self._begun = self._changed = now
        self._heard, self._states, self._addresses, self._done = {}, {}, {}, set()
        self.reason = None

    def join(self, rank, size, address, now):
        """Enters a member; ClusterError where it cannot be one of this group."""
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
    def complete(self):
        """Whether all are there (bool)."""
        return len(self._heard) == self._size

    @property
    def finished(self):
        """Whether all workers have ended well (bool)."""
        return len(self._done) == self._size

    def hear(self, rank, message, now):
        """Takes a member's message: ``state`` (text, whether it waits for others), ``failed`` (text) or ``done``."""
        self._heard[rank] = now
        if "failed" in message:
            self.stop(str(message["failed"]))
        if message.get("done"):
            self._done.add(rank)
        state = message.get("state")
        if state is not None and state != self._states.get(rank):
            self._states[rank], self._changed = state, now

    def lose(self, rank):
        """A member's connection has ended."""
        if rank not in self._done:
            self.stop(f"worker {rank}: the connection to its machine ({self._addresses[rank]}) was lost")

    def stop(self, reason):
        """Stops the group, unless it is stopped already."""
        self.reason = self.reason or reason

    def check(self, now):
        """Applies the limits of time."""
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

    def _check_progress(self, now):
        """Workers that all wait for one another, and for longer than they may, wait for something that will not come."""
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
