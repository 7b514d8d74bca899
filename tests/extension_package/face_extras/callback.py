"""A callback."""

from vargfacenet.train import Callback, TrainingContext, UpdateResult


class WeightNorms(Callback):
    """Write the norm of the embedding layer's weights now and then; registered by its entry point alone."""

    def __init__(self, context: TrainingContext, *, every: int = 1) -> None:
        self._context, self._every = context, every
        self._lines: list[str] = []

    def needs_parameters(self, update: int) -> bool:
        return update % self._every == 0

    def after_update(self, result: UpdateResult) -> None:
        if self.needs_parameters(result.update):
            args, _ = self._context.trainer.parameters()
            self._lines.append(f"{result.update} {args['fc1_weight'].norm().asscalar():.6f}\n")

    def close(self) -> None:
        (self._context.out / "norms.txt").write_text("".join(self._lines))
