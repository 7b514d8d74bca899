"""The MXNet trainer: a Module that makes updates. It knows parameters and their state, and nothing of faces.

`Trainer.step` is made of three parts, `forward`, `backward` and `update`, which `vargfacenet.train.classifier.ShardedTrainer`
also uses, with the classifier between the first two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError
from vargfacenet.train.accumulation import Accumulation
from vargfacenet.train.averages import Averages
from vargfacenet.train.engine import Arrays, NotFinite, StepResult
from vargfacenet.train.finite import not_finite
from vargfacenet.train.nan_trace import first_not_finite, last_faulty_gradient
from vargfacenet.train.optimizer import AdamW, Optimizer, VarGFaceNetAdamW
from vargfacenet.train.runtime import Runtime
from vargfacenet.train.training_state import split_by_kind
from vargfacenet.train.updater_state import UpdaterState

Shapes = Mapping[str, tuple[int, ...]]  # by name of an input


class Trainer:
    """An optimizer on a graph of losses, over one or more devices.

    Implements `vargfacenet.train.engine.TrainerProtocol`.

    Parameters
    ----------
    symbol
        A graph of losses whose first output is the loss of each sample.
    data, labels
        Its inputs that are data and those that are labels, in the order of a batch's: name to shape of this worker's
        part of a batch, all its devices together.
    sgd
        The optimizer.
    runtime
        Devices and workers; each worker has its part of the batch, each device an equal slice of that.
    first_update
        Updates that were made before; a state is loaded with `load_state`.
    parts
        Parts of a worker's batch that are computed one after another, see `vargfacenet.train.accumulation`.

    Raises
    ------
    SettingError
        Where the batch does not divide among the devices and parts.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        *,
        data: Shapes,
        labels: Shapes,
        sgd: Optimizer,
        runtime: Runtime | None = None,
        first_update: int = 0,
        parts: int = 1,
    ) -> None:
        runtime = runtime or Runtime()
        self._devices, self._cluster = list(runtime.devices), runtime.cluster
        batch_size = next(iter(data.values()))[0]
        if batch_size % (len(self._devices) * parts):
            raise SettingError(
                f"batch_size={batch_size}: expected a multiple of the number of devices ({len(self._devices)})"
                + (f" times accumulate ({parts})" if parts > 1 else "")
            )
        self.schedule = sgd.schedule
        self.updates_made = first_update
        self._symbol, self._parts = symbol, parts
        self._rescale = 1 / (batch_size * self._cluster.world_size)
        self._data_names, self._label_names = list(data), list(labels)
        self._outputs = [name[: -len("_output")] for name in symbol.list_outputs()]
        self._module = mx.mod.Module(
            symbol, data_names=list(data), label_names=list(labels), context=self._devices, logger=_Quiet()
        )
        self._module.bind(_parts_of(data, parts), _parts_of(labels, parts) or None)
        self._module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
        optimizer = {
            "lr_scheduler": lambda _: self.schedule(self.updates_made),
            "wd": sgd.weight_decay,
            "begin_num_update": first_update,
            "rescale_grad": self._rescale,
        }
        more: dict[str, Any]
        if isinstance(sgd, AdamW):
            name, more = VarGFaceNetAdamW.__name__, {"rule": sgd, "made": self}
        else:
            name, more = "sgd", {"momentum": sgd.momentum, "clip_gradient": sgd.clip_gradient or None}
        # Several devices: the store sums gradients, and each device updates its own copy of the parameters, so that
        # the momentum is found in one place for any number of devices (see prepare_environment).
        store = self._cluster.store or ("device" if len(self._devices) > 1 else None)
        self._module.init_optimizer(kvstore=store, optimizer=name, optimizer_params={**optimizer, **more})
        self._updater = UpdaterState(self._module, sgd.kept, self._devices)
        self._accumulation = Accumulation(self._module, parts, self._outputs) if parts > 1 else None
        self._averages = Averages(sgd.averaging, self._module) if sgd.averaging else None

    def step(self, batch: mx.io.DataBatch) -> StepResult:
        """Make one update, as in `TrainerProtocol`."""
        if self._accumulation is not None:
            self.updates_made += 1
            outputs = self._accumulation.descend(batch.data[: len(self._data_names)], batch.label)
            return self.update(outputs, batch.label)
        outputs = self.forward(batch)
        self.backward(outputs)
        return self.update({name: output.copy() for name, output in outputs.items()}, batch.label)

    def forward(self, batch: mx.io.DataBatch) -> Arrays:
        """Return the outputs of the graph by name, this worker's part of them; valid until the next call."""
        self.updates_made += 1
        if len(batch.data) > len(self._data_names):
            batch = mx.io.DataBatch(batch.data[: len(self._data_names)], batch.label)  # the rest is the classifier's
        self._module.forward(batch, is_train=True)
        return dict(zip(self._outputs, self._module.get_outputs()))

    def backward(self, outputs: Arrays, gradients: Arrays | None = None) -> None:
        """Compute the gradients of the parameters.

        Parameters
        ----------
        outputs
            What `forward` returned.
        gradients
            Gradients to outputs that are not losses, by name.
        """
        if gradients is None:
            self._module.backward()
            return
        heads = [
            gradients[name] if name in gradients else mx.nd.ones(output.shape, ctx=output.context)
            for name, output in outputs.items()
        ]
        self._module.backward(heads)

    def update(self, outputs: Arrays, labels: list[mx.nd.NDArray]) -> StepResult:
        """Update the parameters after `backward`.

        Parameters
        ----------
        outputs
            What to return of the step, the loss first; ``embedding`` is taken out.
        labels
            Those of the batch.

        Raises
        ------
        NotFinite
            Where the loss or a gradient of this worker is not finite; the parameters are then unchanged.
        """
        embedding = outputs.pop("embedding", None)
        values = {name: output.asnumpy() for name, output in outputs.items()}
        loss = float(next(iter(values.values())).mean())
        if not np.isfinite(loss):
            raise NotFinite(loss, self._faulty_gradients())
        faulty = self._faulty_gradients()
        if faulty:
            raise NotFinite(None, faulty)
        self._module.update()
        if self._averages is not None:
            self._unite_parts()
            self._averages.move(self.updates_made)
        known = None if embedding is None else embedding.asnumpy()
        return StepResult(values, known, [label.asnumpy() for label in labels])

    def parameters(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics as they are now, on the CPU."""
        self._unite_parts()
        return self._module.get_params()

    def averages(self) -> tuple[Arrays, Arrays]:
        """Return parameters and running statistics with averages in their place, where there are any."""
        args, auxs = self.parameters()
        values = self._averages.saved() if self._averages is not None else {}
        found = [{name: values.get(name, value) for name, value in each.items()} for each in (args, auxs)]
        return found[0], found[1]

    def set_parameters(self, args: Arrays, auxs: Arrays) -> None:
        """Replace all parameters and running statistics; averages begin again."""
        self._set(args, auxs)
        if self._averages is not None:
            self._averages.begin()

    def _set(self, args: Arrays, auxs: Arrays) -> None:
        self._module.set_params(args, auxs, allow_missing=False, allow_extra=False)
        if self._accumulation is not None:
            self._accumulation.spread()

    def _unite_parts(self) -> None:
        """Wait for running statistics, and leave their mean over parts in the Module."""
        # BN's gradient writes the running statistics without telling MXNet's engine: reading them does not wait for it.
        mx.nd.waitall()
        if self._accumulation is not None:
            self._accumulation.average()

    def state(self) -> Arrays:
        """Return everything that the next update depends on, as in `TrainerProtocol`."""
        args, auxs = self.parameters()
        if len(self._devices) * self._parts > 1:
            # Each slice has running statistics of its own. Their mean is saved, and this run continues from it too.
            self._set(args, auxs)
        state = {f"arg:{name}": value for name, value in args.items()}
        state.update({f"aux:{name}": value for name, value in auxs.items()})
        state.update(self._updater.save())
        if self._averages is not None:
            state.update({f"ema:{name}": value for name, value in self._averages.saved().items()})
        return state

    def load_state(self, state: Arrays) -> None:
        """Take what `state` returned; CheckpointError where it does not fit."""
        parts = split_by_kind(state, dict(zip(("arg", "aux"), self.parameters())))
        self.set_parameters(parts["arg"], parts["aux"])
        self._updater.load(parts)
        if self._averages is not None:
            self._averages.load(parts["ema"])

    def synchronise(self) -> None:
        """Average running statistics over all workers, as those of several devices are.

        Raises
        ------
        TrainingError
            Where the workers' parameters are not byte for byte the same.
        """
        if self._cluster.world_size == 1:
            return
        args, auxs = self.parameters()
        self._cluster.check_identical("the weights", [args[name] for name in sorted(args)])
        for name in sorted(auxs):
            auxs[name] = self._mean_over_workers(auxs[name])
        self._set(args, auxs)
        if self._averages is not None:
            values = self._averages.values
            self._averages.load({name: self._mean_over_workers(values[name]) for name in self._averages.statistics})

    def _mean_over_workers(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.array(self._cluster.all_reduce(array.asnumpy()) / self._cluster.world_size)

    def broadcast_state(self) -> None:
        """Give every worker the state that worker 0 has loaded or drawn."""
        if self._cluster.world_size == 1:
            return
        state = self.state()
        names = self._cluster.broadcast_object(sorted(state))
        for name in names:
            like = state[name if name in state else f"arg:{name.partition(':')[2]}"]
            state[name] = mx.nd.array(self._cluster.broadcast(like.asnumpy()))
        self.load_state({name: state[name] for name in names})

    def trace_nan(self, batch: mx.io.DataBatch, fault: NotFinite) -> str:
        """Name what made the first number that is not finite.

        Repeats the forward pass of the update, which was not made, and looks at every inner output of the graph.
        """
        args, auxs = self.parameters()
        inputs = dict(
            zip([*self._data_names, *self._label_names], [*batch.data[: len(self._data_names)], *batch.label])
        )
        slices = self._devices * self._parts
        rows = len(batch.data[0]) // len(slices)
        for place, device in enumerate(slices):
            own = {name: value[place * rows : (place + 1) * rows] for name, value in inputs.items()}
            found = first_not_finite(self._symbol, {**args, **own}, auxs, inputs=set(own), device=device)
            if found:
                return found
        if fault.gradients:
            return last_faulty_gradient(self._symbol, fault.gradients)
        return "the loss of the classifier outside of the graph"

    def _faulty_gradients(self) -> list[str]:
        """Return the parameters whose gradients are not finite on a device, in the order of the graph."""
        names = [name for name in self._module._param_names if self._module._exec_group.grad_req[name] != "null"]
        faulty = {names[place] for arrays in self._gradients() for place in not_finite(arrays)}
        return [name for name in names if name in faulty]

    def _gradients(self) -> list[list[mx.nd.NDArray]]:
        """Return the gradients of each device."""
        by_parameter = [arrays for arrays in self._module._exec_group.grad_arrays if arrays[0] is not None]
        return [list(arrays) for arrays in zip(*by_parameter)]


def _parts_of(shapes: Shapes, parts: int) -> list[tuple[str, tuple[int, ...]]]:
    """Return the shapes of a part of a batch."""
    return [(name, (shape[0] // parts, *shape[1:])) for name, shape in shapes.items()]


class _Quiet:
    """A logger that drops the remarks of a Module about what is intended here."""

    def warning(self, *_: Any) -> None:
        pass

    info = warning
