"""The trainer of the PyTorch engine, which implements `vargfacenet.train.engine.TrainerProtocol`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
import torch
from torch import nn

from vargfacenet.errors import SettingError
from vargfacenet.formats.graph_names import OUTPUT
from vargfacenet.torch.checkpoint import arrays_of, as_ndarray, module_of, set_arrays
from vargfacenet.torch.cluster import explained
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.nan_trace import first_not_finite
from vargfacenet.torch.optimizer import MomentumSGD, decay_multipliers
from vargfacenet.torch.outputs import PendingStep
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.uploads import Uploader
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.engine import Arrays, NotFinite, StepResult
from vargfacenet.train.nan_trace import last_faulty_gradient
from vargfacenet.train.optimizer import SGD
from vargfacenet.train.training_state import split_by_kind

_EMBEDDING = "embedding"


class TorchTrainer:
    """Stochastic gradient descent with momentum on a graph of losses, over one or more slices of a batch.

    A slice is to this trainer what a device is to MXNet's: BN takes the statistics of each slice by itself, gradients are
    summed, and the running statistics move by the mean over slices. One process with N slices, N workers with one each, and
    MXNet with N devices therefore compute the same.

    Parameters
    ----------
    symbol
        A graph of losses whose first output is the loss of each sample, in operators that PyTorch's engine knows.
    data, labels
        Its inputs that are data and those that are labels, in the order of a batch's: name to shape of this worker's part of
        a batch.
    sgd
        The optimizer.
    compute
        Device, precision, memory layout, slices.
    cluster
        The workers that train together; of several, a `TorchCluster`.
    first_update
        Updates that were made before; a state is loaded with `load_state`.

    Attributes
    ----------
    schedule
        Learning rate of an update; 1 is the first.
    module
        The graph with its parameters.

    Raises
    ------
    SettingError
        Where the batch does not divide among the slices.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        *,
        data: Mapping[str, Sequence[int]],
        labels: Mapping[str, Sequence[int]],
        sgd: SGD,
        compute: Compute,
        cluster: Cluster = ALONE,
        first_update: int = 0,
    ) -> None:
        rows, slices, workers = next(iter(data.values()))[0], compute.slices, cluster.world_size
        if rows % slices:
            raise SettingError(
                f"batch_size={rows * workers}: expected a multiple of the number of slices ({slices * workers})"
            )
        self.schedule = sgd.schedule
        self._symbol, self._label_names = symbol, list(labels)
        self._rows, self._slices, self._update, self._workers = rows, slices, first_update, workers
        self._cluster: Any = cluster
        self._compute = compute
        self._uploader = Uploader(compute.device, whole=compute.whole_images, channels_last=compute.channels_last)
        self.module = _drawn_module(symbol, {**data, **labels}).to(compute.device)
        if compute.channels_last:
            self.module.to(memory_format=torch.channels_last)
        if OUTPUT in self.module.node_names:
            self.module.set_autocast(compute.autocast, OUTPUT)
        self._run = self._distributed()
        trained = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        self._optimizer = MomentumSGD(
            trained,
            decay_multipliers(list(trained), symbol.attr_dict()),
            momentum=sgd.momentum,
            weight_decay=sgd.weight_decay,
            # DistributedDataParallel gives the mean over workers of what each has summed.
            rescale=1 / rows,
            clip_gradient=sgd.clip_gradient,
        )
        self._outputs = list(self.module.output_names)
        # Above 0 from an update that is not finite on, until `step` has reported it.
        self._broken = torch.zeros((), device=compute.device)

    def _distributed(self) -> Any:
        run: Any = self.module
        if self._compute.compiled:
            run = torch.compile(run)
        if self._workers > 1:
            device = [self._compute.device] if self._compute.device.type == "cuda" else None
            run = nn.parallel.DistributedDataParallel(
                run, device_ids=device, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        return run

    def step(self, batch: mx.io.DataBatch) -> StepResult:
        """Make one update, as in `TrainerProtocol`; ClusterError where another worker is gone."""
        try:
            return self.launch(batch).result()
        except NotFinite:
            self._broken.zero_()
            raise

    def launch(self, batch: mx.io.DataBatch) -> PendingStep:
        """Start an update without waiting for the device.

        The device decides by itself to leave everything unchanged where loss or gradients are not finite, and in all
        updates after that until `step` has raised `NotFinite`.
        """
        self._update += 1
        self._seed_dropout()
        inputs = self._inputs(batch)
        self.module.train()
        self._optimizer.clear()
        with explained(self._cluster):
            outputs = self._descend(inputs)
            embedding = outputs.pop(_EMBEDDING, None)
            fault = self._fault(outputs)
        self._broken = torch.maximum(self._broken, fault)
        self._apply(self.schedule(self._update))
        labels = [label.asnumpy() for label in batch.label]
        return PendingStep(outputs, embedding, labels, fault, self._faulty_gradients)

    def _seed_dropout(self) -> None:
        # From the state of NumPy, which the loop has seeded: an update draws the same wherever the run was resumed.
        torch.manual_seed(int(np.random.randint(1 << 31)))  # noqa: NPY002

    def _inputs(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        labels = batch.label[: len(self._label_names)]  # a graph without an identity loss takes none
        return [self._uploader.images(batch), *map(self._uploader.other, [*batch.data[1:], *labels])]

    def _apply(self, lr: float) -> None:
        self._optimizer.step(lr, self._broken)

    def _descend(self, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add up gradients over the slices; the outputs of all samples by name."""
        if self._slices == 1:
            return dict(zip(self._outputs, self._backward(inputs, is_last=True)))
        statistics = [getattr(self.module, name) for name in self.module.statistic_names]
        before, sums = [value.clone() for value in statistics], [torch.zeros_like(value) for value in statistics]
        found, length = [], self._rows // self._slices
        for number in range(self._slices):
            part = [value[number * length : (number + 1) * length] for value in inputs]
            found.append(self._backward(part, is_last=number == self._slices - 1))
            if statistics:
                torch._foreach_add_(sums, statistics, alpha=1 / self._slices)
                torch._foreach_copy_(statistics, before)
        if statistics:
            torch._foreach_copy_(statistics, sums)
        return {name: torch.cat(parts) for name, parts in zip(self._outputs, zip(*found))}

    def _backward(self, inputs: list[torch.Tensor], *, is_last: bool) -> list[torch.Tensor]:
        # Gradients of all workers are summed with those of the last slice.
        silent = self._workers > 1 and not is_last
        with self._run.no_sync() if silent else contextlib.nullcontext():
            outputs = self._run(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            ends = [output for output in outputs if output.requires_grad]
            torch.autograd.backward(ends, [torch.ones_like(output) for output in ends])
        return [output.detach() for output in outputs]

    def _fault(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return on the device 0 where the loss and all gradients of all workers are finite, otherwise 1."""
        gradients = list(self._optimizer.gradients().values())
        # Sums of squares, as on MXNet: infinite also where the numbers themselves are not.
        size = torch.stack(torch._foreach_norm(gradients)).square().sum() + next(iter(outputs.values())).float().mean()
        faulty = (~torch.isfinite(size)).float()
        return self._cluster.all_reduce_tensor(faulty).clamp(max=1) if self._workers > 1 else faulty

    def _faulty_gradients(self) -> list[str]:
        """Return the parameters whose gradients are not finite, in the order of the graph."""
        found = self._optimizer.gradients()
        names = [name for name in self.module.parameter_names if name in found]
        return [name for name in names if not bool(torch.isfinite(found[name].square().sum()))]

    def trace_nan(self, batch: mx.io.DataBatch, fault: NotFinite) -> str:
        """Name what made the first number that is not finite, by another forward pass, as in `TrainerProtocol`."""
        self._seed_dropout()
        found = first_not_finite(self.module, self._inputs(batch))
        if found:
            return found
        if fault.gradients:
            return last_faulty_gradient(self._symbol, fault.gradients)
        return "the loss of the classifier outside of the graph, or another worker's part of the batch"

    def synchronise(self) -> None:
        """Average running statistics over all workers; TrainingError where their parameters are not identical."""
        if self._workers == 1:
            return
        args, _ = self.parameters()
        self._cluster.check_identical("the weights", [args[name] for name in sorted(args)])
        with torch.no_grad():
            for name in self.module.statistic_names:
                value = getattr(self.module, name)
                value.copy_(self._cluster.all_reduce_tensor(value.clone()) / self._workers)

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        if self._workers == 1:
            return
        momenta = self._optimizer.momenta()
        for tensor in (*self._tensors().values(), *momenta.values()):
            self._cluster.broadcast_tensor(tensor)
        self._optimizer.load_momenta(momenta)

    def _tensors(self) -> dict[str, torch.Tensor]:
        names = (*self.module.parameter_names, *self.module.statistic_names)
        return {name: getattr(self.module, name).detach() for name in names}

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics as they are after the last update."""
        return arrays_of(self.module)

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Replace all parameters and running statistics."""
        set_arrays(self.module, {**args, **auxs})

    def state(self) -> Arrays:
        """Return everything that the next update depends on, in the arrays of `vargfacenet.train.trainer.Trainer`."""
        args, auxs = self.parameters()
        state = {f"arg:{name}": value for name, value in args.items()}
        state.update({f"aux:{name}": value for name, value in auxs.items()})
        state.update({f"momentum:{name}": as_ndarray(value) for name, value in self._optimizer.momenta().items()})
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned, of either engine; CheckpointError where it does not fit."""
        parts = split_by_kind(state, dict(zip(("arg", "aux"), self.parameters())))
        self.set_parameters(parts["arg"], parts["aux"])
        self._optimizer.load_momenta(
            {name: torch.from_numpy(value.asnumpy()) for name, value in parts["momentum"].items()}
        )


def _drawn_module(symbol: mx.sym.Symbol, inputs: Mapping[str, Sequence[int]]) -> SymbolModule:
    """Return the graph with weights drawn as MXNet's Module draws them: the same ones, from the same seed."""
    args, _, auxs = symbol.infer_shape(**{name: tuple(shape) for name, shape in inputs.items()})
    draw, attributes = mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2), symbol.attr_dict()
    values: Arrays = {}
    for names, shapes in ((symbol.list_arguments(), args), (symbol.list_auxiliary_states(), auxs)):
        for name, shape in sorted(zip(names, shapes)):
            if name not in inputs:
                values[name] = mx.nd.zeros(shape)
                draw(mx.init.InitDesc(name, attributes.get(name)), values[name])
    return module_of(symbol, values, tuple(inputs))
