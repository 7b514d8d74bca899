"""Learning rate by update, from gluoncv's schedulers."""

from __future__ import annotations

from collections.abc import Sequence

from gluoncv.utils import LRScheduler, LRSequential

from vargfacenet.train.engine import Schedule


def learning_rate_schedule(
    *,
    lr: float,
    max_updates: int,
    schedule: str = "cosine",
    warmup_updates: int = 0,
    lr_milestones: Sequence[int] = (),
    lr_factor: float = 0.1,
    lr_final: float = 0.0,
    lr_power: float = 1.0,
) -> Schedule:
    """Return the learning rate by update, 1 being the first: linear warm-up from 0, then the schedule.

    Parameters
    ----------
    lr
        The learning rate after the warm-up.
    max_updates, warmup_updates
        Updates of the run, and those of them that warm up.
    schedule
        ``step``: times `lr_factor` at each update of `lr_milestones`, counted from the run's start; ``cosine``: half a
        cosine [Loshchilov and Hutter, arXiv 1608.03983, eq. 5, one cycle] down to `lr_final` at the run's end; ``polynomial``:
        ``lr_final + (lr - lr_final) * (1 - t) ** lr_power``, with t from 0 after the warm-up to 1 at the run's end.
    lr_milestones, lr_factor, lr_final, lr_power
        See `schedule`.
    """
    rest = max_updates - warmup_updates
    if schedule == "step":
        steps = [step - warmup_updates for step in lr_milestones if warmup_updates < step < max_updates]
        main = LRScheduler("step", base_lr=lr, niters=rest, step_iter=steps, step_factor=lr_factor)
    else:
        main = _phase("cosine" if schedule == "cosine" else "poly", lr, lr_final, rest, lr_power)
    if not warmup_updates:
        return LRSequential([main])
    return LRSequential([_phase("linear", 0, lr, warmup_updates), main])


def _phase(mode: str, begin: float, end: float, updates: int, power: float = 1.0) -> LRScheduler:
    if updates == 1:
        # gluoncv divides by the number of updates between the first and the last.
        return LRScheduler("constant", base_lr=max(begin, end), niters=1)
    return LRScheduler(mode, base_lr=begin, target_lr=end, niters=updates, power=power)
