"""The trainer of the PyTorch engine, which implements `vargfacenet.train.engine.LaunchingTrainer`.

`TorchTrainer.launch` is made of three parts, `forward`, `backward` and `update`, which
`vargfacenet.torch.sharded.TorchShardedTrainer` also uses, with the classifier between the first two.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
import torch

from vargfacenet.errors import SettingError
from vargfacenet.formats.graph_names import OUTPUT
from vargfacenet.torch.averages import Averages
from vargfacenet.torch.checkpoint import arrays_of, as_ndarray, set_arrays
from vargfacenet.torch.cluster import distributed_over, explained
from vargfacenet.torch.form import form_of
from vargfacenet.torch.nan_trace import first_not_finite
from vargfacenet.torch.optimizer import decay_multipliers, freeze, make_optimizer
from vargfacenet.torch.outputs import Fault, PendingStep
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.slices import SliceStatistics
from vargfacenet.torch.states import average_statistics, broadcast, kept_arrays, load_kept
from vargfacenet.torch.uploads import Uploader
from vargfacenet.torch.weights import drawn_module
from vargfacenet.train.cluster import ALONE, Cluster
from vargfacenet.train.engine import Arrays, NotFinite, StepResult
from vargfacenet.train.nan_trace import last_faulty_gradient
from vargfacenet.train.optimizer import Optimizer
from vargfacenet.train.training_state import split_by_kind

_EMBEDDING = "embedding"


class TorchTrainer:
    """An optimizer on a graph of losses, over one or more slices of a batch.

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
    updates_made
        Updates that were begun, those before included.
    broken
        On the device: above 0 from an update that is not finite on, until `step` has reported it.

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
        sgd: Optimizer,
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
        self._data_count, self._rows, self._slices, self._workers = len(data), rows, slices, workers
        self.updates_made = first_update
        self._cluster: Any = cluster
        self._compute = compute
        self._uploader = Uploader(compute.device, whole=compute.whole_images, channels_last=compute.channels_last)
        self.module = drawn_module(symbol, {**data, **labels}).to(compute.device)
        if compute.channels_last:
            self.module.to(memory_format=torch.channels_last)
        if OUTPUT in self.module.node_names:
            self.module.set_autocast(compute.autocast, OUTPUT)
        freeze(self.module, symbol.attr_dict())
        self._has_dropout = any(node["op"] == "Dropout" for node in json.loads(self.module.text)["nodes"])
        run = form_of(self.module, compute, {**data, **labels}, graph=self.module.text)
        self._run: Any = distributed_over(workers, run, compute.device)
        trained = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        self._optimizer = make_optimizer(
            trained,
            decay_multipliers(list(trained), symbol.attr_dict()),
            rule=sgd,
            # DistributedDataParallel gives the mean over workers of what each has summed.
            rescale=1 / rows,
            first_update=first_update,
        )
        self._outputs = list(self.module.output_names)
        self._statistics = SliceStatistics(self.module, slices) if slices > 1 else None
        self._averages = Averages(sgd.averaging, self.module) if sgd.averaging else None
        self.broken = torch.zeros((), device=compute.device)

    def step(self, batch: mx.io.DataBatch) -> StepResult:
        """Make one update, as in `TrainerProtocol`; ClusterError where another worker is gone."""
        try:
            return self.launch(batch).result()
        except NotFinite:
            self.broken.zero_()
            raise

    def launch(self, batch: mx.io.DataBatch) -> PendingStep:
        """Start an update without waiting for the device, as in `LaunchingTrainer`.

        The device decides by itself to leave everything unchanged where loss or gradients are not finite, and in all
        updates after that until `step` has raised `NotFinite`.
        """
        if self._slices == 1:
            outputs = self.forward(batch)
            self.backward(outputs)
        else:
            outputs = self._descend(self._begin(batch))
        return self.update({name: value.detach() for name, value in outputs.items()}, batch.label)

    def forward(self, batch: mx.io.DataBatch) -> dict[str, torch.Tensor]:
        """Begin an update of one slice, and return the graph's outputs by name."""
        inputs = self._begin(batch)
        with explained(self._cluster):
            return self._named(self._run(*inputs))

    def backward(
        self, outputs: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Compute the gradients of the parameters, given those of outputs that are not losses by name."""
        given = gradients or {}
        ends = {name: value for name, value in outputs.items() if value.requires_grad}
        with explained(self._cluster):
            torch.autograd.backward(
                list(ends.values()), [given.get(name, torch.ones_like(value)) for name, value in ends.items()]
            )

    def update(self, outputs: dict[str, torch.Tensor], labels: list[mx.nd.NDArray]) -> PendingStep:
        """Start the update of the parameters after `backward`.

        Parameters
        ----------
        outputs
            What to return of the step, the loss first; ``embedding`` is taken out.
        labels
            Those of the batch.
        """
        embedding = outputs.pop(_EMBEDDING, None)
        names, sizes = self._gradient_sizes()
        with explained(self._cluster):
            fault = self._fault(next(iter(outputs.values())), sizes)
        self.broken = torch.maximum(self.broken, fault)
        self._optimizer.step(self.schedule(self.updates_made), self.broken)
        if self._averages is not None:
            self._unite_slices()
            self._averages.move(self.updates_made, self.broken)
        return PendingStep(outputs, embedding, [label.asnumpy() for label in labels], Fault(fault, names, sizes))

    def _begin(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        self.updates_made += 1
        self._seed_dropout()
        self.module.train()
        self._optimizer.clear()
        return self._inputs(batch)

    def _seed_dropout(self) -> None:
        # From the state of NumPy, which the loop has seeded: an update draws the same wherever the run was resumed.
        if self._has_dropout:
            torch.manual_seed(int(np.random.randint(1 << 31)))  # noqa: NPY002

    def _inputs(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        labels = batch.label[: len(self._label_names)]  # a graph without an identity loss takes none
        others = batch.data[1 : self._data_count]  # the rest is the classifier's
        return [self._uploader.images(batch), *map(self._uploader.other, [*others, *labels])]

    def _named(self, outputs: Any) -> dict[str, torch.Tensor]:
        return dict(zip(self._outputs, outputs if isinstance(outputs, tuple) else (outputs,)))

    def _descend(self, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add up gradients over the slices; the outputs of all samples by name."""
        assert self._statistics is not None  # there are several slices
        found, length = [], self._rows // self._slices
        for number in range(self._slices):
            part = [value[number * length : (number + 1) * length] for value in inputs]
            self._statistics.enter(number)
            # Gradients of all workers are summed with those of the last slice.
            silent = self._workers > 1 and number < self._slices - 1
            with self._run.no_sync() if silent else contextlib.nullcontext():
                outputs = self._named(self._run(*part))
                self.backward(outputs)
            self._statistics.leave(number)
            found.append([value.detach() for value in outputs.values()])
        return {name: torch.cat(parts) for name, parts in zip(self._outputs, zip(*found))}

    def _gradient_sizes(self) -> tuple[list[str], torch.Tensor]:
        """Return the parameters that have a gradient, and the lengths of those on the device."""
        gradients = self._optimizer.gradients()
        return list(gradients), torch.stack(torch._foreach_norm(list(gradients.values())))

    def _fault(self, loss: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """Return on the device 0 where the loss and all gradients of all workers are finite, otherwise 1."""
        # Sums of squares, as on MXNet: infinite also where the numbers themselves are not.
        faulty = (~torch.isfinite(sizes.square().sum() + loss.float().mean())).float()
        return self._cluster.all_reduce_tensor(faulty).clamp(max=1) if self._workers > 1 else faulty

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
        average_statistics(self._cluster, self.module, self._averages)  # of slices: their means, after `parameters`
        self._spread()

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        if self._workers == 1:
            return
        broadcast(self._cluster, self.module, self._optimizer, self._averages)
        self._spread()

    def _spread(self) -> None:
        if self._statistics is not None:
            self._statistics.spread()

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics as they are after the last update."""
        self._unite_slices()
        return arrays_of(self.module)

    def averages(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics with averages in their place, where there are any."""
        args, auxs = self.parameters()
        values = self._averages.values if self._averages is not None else {}
        for name, value in values.items():
            (args if name in args else auxs)[name] = as_ndarray(value)
        return args, auxs

    def _unite_slices(self) -> None:
        if self._statistics is not None:
            self._statistics.average()

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Replace all parameters and running statistics; averages begin again."""
        set_arrays(self.module, {**args, **auxs})
        self._spread()
        if self._averages is not None:
            self._averages.begin()

    def state(self) -> Arrays:
        """Return everything that the next update depends on, in the arrays of `vargfacenet.train.trainer.Trainer`."""
        args, auxs = self.parameters()
        self._spread()  # the mean over slices is saved, and this run continues from it too
        state = {f"arg:{name}": value for name, value in args.items()}
        state.update({f"aux:{name}": value for name, value in auxs.items()})
        state.update(kept_arrays(args, self._optimizer, self._averages))
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned, of either engine; CheckpointError where it does not fit."""
        parts = split_by_kind(state, dict(zip(("arg", "aux"), self.parameters())))
        self.set_parameters(parts["arg"], parts["aux"])
        load_kept(parts, self._optimizer, self._averages)
