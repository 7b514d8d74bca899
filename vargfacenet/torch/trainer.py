"""A trainer with the interface of `vargfacenet.train.trainer.Trainer`, on PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np
import torch
from torch import nn

from vargfacenet.errors import SettingError
from vargfacenet.graph_names import OUTPUT
from vargfacenet.torch.checkpoint import arrays_of, as_ndarray, module_of, set_arrays
from vargfacenet.torch.cluster import explained
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.optimizer import MomentumSGD, decay_multipliers
from vargfacenet.torch.origin import not_finite_error
from vargfacenet.torch.outputs import HostCopy, Means
from vargfacenet.torch.precision import Compute
from vargfacenet.torch.uploads import Uploader
from vargfacenet.train.states import check_fits

Arrays = dict[str, mx.nd.NDArray]
_EMBEDDING = "embedding"


class TorchTrainer:
    """Stochastic gradient descent with momentum on a graph of losses, over one or more slices of a batch.

    A slice is to this trainer what a device is to MXNet's: BN takes the statistics of each slice by itself, gradients are
    summed, and the running statistics move by the mean over slices. One process with N slices, N workers with one each, and
    MXNet with N devices therefore compute the same.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A graph of losses whose first output is the loss of each sample, in operators that PyTorch's engine knows.
    data, labels : dict of str to tuple of int
        Its inputs that are data and those that are labels, in the order of a batch's: name to shape of this worker's part of
        a batch.
    compute : Compute
        Device, precision, memory layout.
    slices : int
        Parts of this worker's batch, one after another.
    schedule : callable
        Learning rate of an update (1 is the first).
    momentum, weight_decay, clip_gradient : float
        As of `vargfacenet.train.trainer.Trainer`.
    first_update : int
        Updates already behind; a state is loaded with `load_state`.
    cluster : Cluster
        The workers that train together; of several, a `TorchCluster`.
    whole : bool
        Images hold whole numbers, see `Uploader`.

    Attributes
    ----------
    schedule, symbol
        As given.
    data_names, label_names : list of str
        The graph's inputs.
    embedding : HostCopy or None
        The embeddings of the last update's part of the batch, (N, embedding_size), where the graph has such an output.
    labels : list of NDArray
        Its labels.
    lag : int
        As of `vargfacenet.train.trainer.Trainer`: 1 on a GPU, which computes one update while the last one is read.
    module : SymbolModule
        The graph with its parameters.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        *,
        data: Mapping[str, Sequence[int]],
        labels: Mapping[str, Sequence[int]],
        compute: Compute,
        schedule: Callable[[int], float],
        slices: int = 1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        clip_gradient: float = 0.0,
        first_update: int = 0,
        cluster: Any = None,
        whole: bool = True,
    ):
        rows = next(iter(data.values()))[0]
        workers = cluster.size if cluster else 1
        if rows % slices:
            raise SettingError(
                f"batch_size={rows * workers}: expected a multiple of the number of slices ({slices * workers})"
            )
        self.symbol, self.schedule = symbol, schedule
        self.data_names, self.label_names = list(data), list(labels)
        self.embedding: HostCopy | None = None
        self.labels: list[mx.nd.NDArray] = []
        self._rows, self._slices, self._update, self._workers = rows, slices, first_update, workers
        self._cluster, self._compute, self._momentum = cluster, compute, momentum
        self._uploader = Uploader(compute.device, whole=whole, channels_last=compute.channels_last)
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
            momentum=momentum,
            weight_decay=weight_decay,
            # DistributedDataParallel gives the mean over workers of what each has summed.
            rescale=1 / rows,
            clip_gradient=clip_gradient,
        )
        self._outputs = list(self.module.output_names)
        self._broken = torch.zeros((), device=compute.device)  # 1 from the first update on that is not finite
        self.lag = int(compute.device.type == "cuda")
        self._last: tuple[int, list[torch.Tensor], Means] | None = None

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

    def step(self, batch: mx.io.DataBatch) -> dict[str, Any]:
        """Make one update.

        Returns the means of the graph's outputs over all workers' samples: dict of name to something whose ``asnumpy()``
        waits for it. On a GPU an update that is not finite is noticed at the next one; nothing is changed after it.

        Raises
        ------
        TrainingError
            Where loss or gradients are not finite, with the node of the graph that was the first; parameters and momenta
            are then what they were.
        ClusterError
            Where another worker is gone.
        """
        self._check_last()
        self._update += 1
        # Dropout draws what this update draws, wherever the run was taken up.
        torch.manual_seed(int(np.random.randint(1 << 31)))  # noqa: NPY002 - which the loop has seeded
        inputs = self._inputs(batch)
        self.module.train()
        self._optimizer.clear()
        with explained(self._cluster):
            outputs = self._descend(inputs)
            embedding = outputs.pop(_EMBEDDING, None)
            means = self._means(outputs)
        self._broken = torch.maximum(self._broken, means[-1].clamp(max=1))
        self._apply(self.schedule(self._update))
        self.embedding = None if embedding is None else HostCopy(embedding)
        self.labels = batch.label
        names = [*outputs, "wish"] if self._workers > 1 else list(outputs)
        told = Means(means, names)
        self._last = (self._update, inputs, told)
        if self._compute.device.type == "cpu":
            self._check_last()
        return told.by_name()

    def _inputs(self, batch: mx.io.DataBatch) -> list[torch.Tensor]:
        labels = batch.label[: len(self.label_names)]  # a graph without an identity loss takes none
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

    def _means(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Means over all workers of the outputs, of the wish to stop, and whether something is not finite, in a row."""
        gradients = list(self._optimizer.gradients().values())
        values = [output.float().mean() for output in outputs.values()]
        # Sums of squares, as on MXNet: infinite also where the numbers themselves are not.
        size = torch.stack(torch._foreach_norm(gradients)).square().sum() + values[0]
        faulty = (~torch.isfinite(size)).float()
        if self._workers > 1:
            values.append(torch.full_like(faulty, float(self._cluster.wish)))
        row = torch.stack([*values, faulty])
        if self._workers > 1:
            row = self._cluster.all_reduce(row)
            row[:-1] /= self._workers
        return row

    def _check_last(self) -> None:
        """Raise what the last update came to, where it was not finite."""
        last, self._last = self._last, None
        if last is not None and last[2].is_faulty():
            gradients = {name: bool(torch.isfinite(g).all()) for name, g in self._optimizer.gradients().items()}
            faulty = [name for name in self.module.parameter_names if not gradients.get(name, True)]
            raise not_finite_error(self.module, last[0], last[1], last[2].first(), faulty, self.schedule(last[0]))

    def synchronise(self) -> None:
        """Give every worker the mean of all workers' running statistics; TrainingError where parameters are not alike."""
        self._check_last()
        if self._workers == 1:
            return
        args, _ = self.parameters()
        self._cluster.check_alike("the weights", [args[name] for name in sorted(args)])
        with torch.no_grad():
            for name in self.module.statistic_names:
                value = getattr(self.module, name)
                value.copy_(self._cluster.all_reduce(value.clone()) / self._workers)

    def share_state(self) -> None:
        """Give every worker what worker 0 has loaded, or else drawn."""
        if self._workers == 1:
            return
        momenta = self._optimizer.momenta()
        for tensor in (*self._tensors().values(), *momenta.values()):
            self._cluster.broadcast(tensor)
        self._optimizer.load_momenta(momenta)

    def _tensors(self) -> dict[str, torch.Tensor]:
        names = (*self.module.parameter_names, *self.module.statistic_names)
        return {name: getattr(self.module, name).detach() for name in names}

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics as they are now: two dicts of name to NDArray on the CPU."""
        return arrays_of(self.module)

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Take parameters and running statistics, all of them."""
        set_arrays(self.module, {**args, **auxs})

    def state(self) -> Arrays:
        """Return all that the next update depends on besides data, as `vargfacenet.train.trainer.Trainer.state` does."""
        self._check_last()
        args, auxs = self.parameters()
        state = {f"arg:{name}": value for name, value in args.items()}
        state.update({f"aux:{name}": value for name, value in auxs.items()})
        state.update({f"momentum:{name}": as_ndarray(value) for name, value in self._optimizer.momenta().items()})
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` gave, of this engine or of MXNet's; CheckpointError where it is of another network."""
        parts: dict[str, Arrays] = {"arg": {}, "aux": {}, "momentum": {}}
        for key, value in state.items():
            part, _, name = key.partition(":")
            if part in parts:
                parts[part][name] = value
        check_fits(parts, dict(zip(("arg", "aux"), self.parameters())))
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
