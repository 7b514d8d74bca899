"""The rules by which a group continues or stops, with times that the test chooses."""

import pytest

from vargfacenet.errors import ClusterError
from vargfacenet.launch.membership import JOINING, Membership


def complete(size=2, timeout=10.0, stall=100.0):
    membership = Membership(size, timeout, stall, now=0.0)
    for rank in range(size):
        membership.join(rank, size, f"10.0.0.{rank}", now=0.0)
    return membership


def hear_all(membership, now, *states):
    for rank, state in enumerate(states):
        membership.receive(rank, {"state": list(state)}, now)
    membership.check(now)


def test_those_who_do_not_come_are_named_when_the_time_is_over():
    membership = Membership(3, 10.0, 100.0, now=0.0)
    membership.join(1, 3, "10.0.0.1", now=1.0)
    membership.check(10.0)
    assert membership.reason is None
    membership.check(10.1)
    assert membership.reason.startswith("1 of 3 workers are there after 10 s; missing: 0, 2.")


def test_who_does_not_belong_is_refused():
    membership = Membership(2, 10.0, 100.0, now=0.0)
    membership.join(0, 2, "10.0.0.5", now=0.0)
    with pytest.raises(ClusterError, match="worker 0 is here already, from 10.0.0.5"):
        membership.join(0, 2, "10.0.0.6", now=0.0)
    with pytest.raises(ClusterError, match="worker 1 was started with --of 3, worker 0 with --of 2"):
        membership.join(1, 3, "10.0.0.6", now=0.0)
    with pytest.raises(ClusterError, match="worker 2: expected a --rank of 0 to 1"):
        membership.join(2, 2, "10.0.0.6", now=0.0)
    assert not membership.complete


def test_the_first_failure_is_the_reason():
    membership = complete()
    membership.receive(1, {"failed": "worker 1 was killed (SIGKILL)"}, 1.0)
    membership.disconnect(0)
    assert membership.reason == "worker 1 was killed (SIGKILL)"


def test_a_lost_connection_stops_the_group_unless_that_worker_was_done():
    membership = complete()
    membership.receive(0, {"done": True}, 1.0)
    membership.disconnect(0)
    assert membership.reason is None
    membership.disconnect(1)
    assert membership.reason == "worker 1: the connection to its machine (10.0.0.1) was lost"


def test_a_silent_machine_counts_as_gone():
    membership = complete()
    for now in (5.0, 10.0, 15.0):
        membership.receive(0, {"state": ["update 1", False]}, now)
        membership.check(now)
    assert membership.reason == "worker 1: nothing was heard of its machine (10.0.0.1) for 15 s"


def test_all_done_is_finished():
    membership = complete()
    membership.receive(0, {"done": True}, 1.0)
    assert not membership.finished
    membership.receive(1, {"done": True}, 2.0)
    assert membership.finished


def test_a_store_that_does_not_form_is_noticed_only_when_all_wait_for_it():
    membership = complete()
    for now in range(0, 50, 2):
        hear_all(membership, now, (JOINING, True), ("starting", False))
    for now in range(50, 60, 2):
        hear_all(membership, now, (JOINING, True), (JOINING, True))
    assert membership.reason is None
    hear_all(membership, 61, (JOINING, True), (JOINING, True))
    assert membership.reason.startswith("the parameter store has not formed within 10 s though all workers are there")


def test_workers_that_get_on_may_take_any_time_and_stuck_ones_are_noticed():
    membership = complete()
    for update in range(30):
        hear_all(membership, 9 * update, (f"update {update}", True), (f"update {update}", True))
    assert membership.reason is None
    for now in range(261, 362, 10):
        hear_all(membership, now, ("update 29", True), ("update 28", True))
    assert membership.reason is None
    hear_all(membership, 363, ("update 29", True), ("update 28", True))
    assert "no worker got on for 100 s" in membership.reason
    assert "worker 0 at update 29, worker 1 at update 28" in membership.reason


def test_others_may_wait_for_a_worker_that_verifies():
    membership = complete()
    for now in range(0, 1000, 5):
        hear_all(membership, now, ("saving and verifying after update 3", False), ("update 3", True))
    assert membership.reason is None
