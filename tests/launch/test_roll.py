"""The rules by which a group goes on or stops, with a clock that the test turns."""

import pytest

from vargfacenet.errors import ClusterError
from vargfacenet.launch.roll import JOINING, Roll


def complete(size=2, timeout=10.0, stall=100.0):
    roll = Roll(size, timeout, stall, now=0.0)
    for rank in range(size):
        roll.join(rank, size, f"10.0.0.{rank}", now=0.0)
    return roll


def hear_all(roll, now, *states):
    for rank, state in enumerate(states):
        roll.hear(rank, {"state": list(state)}, now)
    roll.check(now)


def test_those_who_do_not_come_are_named_when_the_time_is_over():
    roll = Roll(3, 10.0, 100.0, now=0.0)
    roll.join(1, 3, "10.0.0.1", now=1.0)
    roll.check(10.0)
    assert roll.reason is None
    roll.check(10.1)
    assert roll.reason.startswith("1 of 3 workers are there after 10 s; missing: 0, 2.")


def test_who_does_not_belong_is_refused():
    roll = Roll(2, 10.0, 100.0, now=0.0)
    roll.join(0, 2, "10.0.0.5", now=0.0)
    with pytest.raises(ClusterError, match="worker 0 is here already, from 10.0.0.5"):
        roll.join(0, 2, "10.0.0.6", now=0.0)
    with pytest.raises(ClusterError, match="worker 1 was started with --of 3, worker 0 with --of 2"):
        roll.join(1, 3, "10.0.0.6", now=0.0)
    with pytest.raises(ClusterError, match="worker 2: expected a --rank of 0 to 1"):
        roll.join(2, 2, "10.0.0.6", now=0.0)
    assert not roll.complete


def test_the_first_failure_is_the_reason():
    roll = complete()
    roll.hear(1, {"failed": "worker 1 was killed (SIGKILL)"}, 1.0)
    roll.lose(0)
    assert roll.reason == "worker 1 was killed (SIGKILL)"


def test_a_lost_connection_stops_the_group_unless_that_worker_was_done():
    roll = complete()
    roll.hear(0, {"done": True}, 1.0)
    roll.lose(0)
    assert roll.reason is None
    roll.lose(1)
    assert roll.reason == "worker 1: the connection to its machine (10.0.0.1) was lost"


def test_a_silent_machine_counts_as_gone():
    roll = complete()
    for now in (5.0, 10.0, 15.0):
        roll.hear(0, {"state": ["update 1", False]}, now)
        roll.check(now)
    assert roll.reason == "worker 1: nothing was heard of its machine (10.0.0.1) for 15 s"


def test_all_done_is_finished():
    roll = complete()
    roll.hear(0, {"done": True}, 1.0)
    assert not roll.finished
    roll.hear(1, {"done": True}, 2.0)
    assert roll.finished


def test_a_store_that_does_not_form_is_noticed_only_when_all_wait_for_it():
    roll = complete()
    for now in range(0, 50, 2):
        hear_all(roll, now, (JOINING, True), ("starting", False))
    for now in range(50, 60, 2):
        hear_all(roll, now, (JOINING, True), (JOINING, True))
    assert roll.reason is None
    hear_all(roll, 61, (JOINING, True), (JOINING, True))
    assert roll.reason.startswith("the parameter store has not formed within 10 s though all workers are there")


def test_workers_that_get_on_may_take_any_time_and_stuck_ones_are_noticed():
    roll = complete()
    for update in range(30):
        hear_all(roll, 9 * update, (f"update {update}", True), (f"update {update}", True))
    assert roll.reason is None
    for now in range(261, 362, 10):
        hear_all(roll, now, ("update 29", True), ("update 28", True))
    assert roll.reason is None
    hear_all(roll, 363, ("update 29", True), ("update 28", True))
    assert "no worker got on for 100 s" in roll.reason
    assert "worker 0 at update 29, worker 1 at update 28" in roll.reason


def test_others_may_wait_for_a_worker_that_verifies():
    roll = complete()
    for now in range(0, 1000, 5):
        hear_all(roll, now, ("saving and verifying after update 3", False), ("update 3", True))
    assert roll.reason is None
