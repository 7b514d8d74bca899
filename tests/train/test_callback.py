"""Callbacks with several workers."""

from vargfacenet.train import Callback
from vargfacenet.train.callback import OnlyParameters


def test_a_callback_in_another_worker_only_waits():
    class Busy(Callback):
        def needs_parameters(self, update):
            return update == 3

        def after_update(self, result):
            raise AssertionError("called in a worker that is not the first")

        def close(self):
            raise AssertionError("may write over what the first worker's has written")

    follower = OnlyParameters(Busy())
    assert [update for update in range(6) if follower.needs_parameters(update)] == [3]
    follower.after_update(None)
    follower.close()
