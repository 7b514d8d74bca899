"""A Module that is stepped: it knows updates, parameters and their state, and nothing of faces."""

import mxnet as mx
import numpy as np

from vargfacenet.errors import SettingError, SetupError
from vargfacenet.train.cluster import ALONE
from vargfacenet.train.origin import NotFinite
from vargfacenet.train.precision import not_finite
from vargfacenet.train.states import check_fits


class Trainer:
    """Stochastic gradient descent with momentum on a graph of losses, over one or more devices.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        A graph of losses whose first output is the loss of each sample.
    data, labels : dict of str to tuple of int
        Its inputs that are data and those that are labels, in the order of a batch's: name to shape of this worker's
        part of a batch, all its devices together.
    devices : list of mx.Context
        Each takes an equal slice of the batch.
    schedule : callable
        Learning rate of an update (1 is the first).
    momentum, weight_decay : float
        Of the optimizer.
    clip_gradient : float
        Largest absolute value of a gradient's entry, averaged over the batch; 0 for no limit.
    first_update : int
        Updates already behind; a state is loaded with `load_state`.
    cluster : Cluster
        The workers that train together, each with its part of the batch; this one alone by default.
    loss_scale : LossScale, optional
        Multiplies the gradient of each loss; the graph is one whose losses are given theirs (``scaled``).

    Attributes
    ----------
    symbol, devices, schedule
        As given.
    data_names, label_names : list of str
        The graph's inputs.
    embedding : NDArray or None
        The embeddings of the last update's part of the batch, (N, embedding_size), where the graph has an output of
        that name; not waited for.
    labels : list of NDArray
        Its labels.
    lag : int
        Updates after which the outputs of one are read, so that the device need not be waited for.
    """

    lag = 0

    def __init__(
        self,
        symbol,
        *,
        data,
        labels,
        devices,
        schedule,
        momentum=0.9,
        weight_decay=5e-4,
        clip_gradient=0.0,
        first_update=0,
        cluster=ALONE,
        loss_scale=None,
    ):
        batch_size = next(iter(data.values()))[0]
        if batch_size % len(devices):
            raise SettingError(
                f"batch_size={batch_size}: expected a multiple of the number of devices ({len(devices)})"
            )
        self.schedule, self.symbol = schedule, symbol
        self.embedding, self.labels = None, []
        self._momentum, self._cluster = momentum, cluster
        self._update, self._rescale, self._loss_scale = first_update, 1 / (batch_size * cluster.size), loss_scale
        self.devices, self.data_names, self.label_names = devices, list(data), list(labels)
        self._outputs = [name[: -len("_output")] for name in symbol.list_outputs()]
        self._module = mx.mod.Module(
            symbol, data_names=list(data), label_names=list(labels), context=devices, logger=_Quiet()
        )
        self._module.bind(list(data.items()), list(labels.items()) or None)
        self._module.init_params(mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2))
        optimizer = {
            # An update that the loss scale leaves out counts too.
            "lr_scheduler": lambda _: schedule(self._update),
            "momentum": momentum,
            "wd": weight_decay,
            "begin_num_update": first_update,
            "rescale_grad": self._rescale,
        }
        if clip_gradient:
            optimizer["clip_gradient"] = clip_gradient
        # Several devices: gradients are summed by the store, and each device updates its own copy of the parameters,
        # so that the momentum is found in one place however many there are (see prepare_environment).
        store = cluster.store or ("device" if len(devices) > 1 else None)
        self._module.init_optimizer(kvstore=store, optimizer="sgd", optimizer_params=optimizer)

    def step(self, batch):
        """One update. Returns copies of the graph's outputs, or their means where there are several workers, not waited
        for: dict of name to NDArray.

        Raises
        ------
        NotFinite
            Where loss or gradients of this worker are not; the parameters are then what they were.
        """
        self._update += 1
        outputs = self._descend(batch)
        self.embedding, self.labels = outputs.pop("embedding", None), batch.label
        self._check_loss(outputs)
        if self._loss_scale is None:
            self._check_gradients()
            self._module.update()
        else:
            self._module._optimizer.rescale_grad = self._rescale / self._loss_scale.value
            if self._loss_scale.admits(self._gradients(), total=self._cluster.total):
                self._module.update()
        return self._cluster.mean(outputs)

    def synchronise(self):
        """Gives every worker the mean of all workers' running statistics, as those of several devices are averaged.

        All workers call it where the parameters are wanted, `state` included.

        Raises
        ------
        TrainingError
            Where the workers' parameters are not byte for byte the same.
        """
        if self._cluster.size == 1:
            return
        args, auxs = self.parameters()
        self._cluster.check_alike("the weights", [args[name] for name in sorted(args)])
        for name in sorted(auxs):
            auxs[name] = mx.nd.array(self._cluster.sum(auxs[name].asnumpy()) / self._cluster.size)
        self.set_parameters(args, auxs)

    def share_state(self):
        """Gives every worker what worker 0 has loaded, or else drawn."""
        if self._cluster.size == 1:
            return
        state = Trainer.state(self)
        names = self._cluster.share(sorted(state))
        for name in names:
            like = state[name if name in state else name.replace("momentum:", "arg:", 1)]
            state[name] = mx.nd.array(self._cluster.spread(like.asnumpy()))
        Trainer.load_state(self, {name: state[name] for name in names})

    def _descend(self, batch):
        """Gives the parameters' gradients to the Module and copies of the outputs to the caller."""
        self._module.forward(batch, is_train=True)
        outputs = self._module.get_outputs()
        self._module.backward(None if self._loss_scale is None else self._heads(outputs))
        return {name: output.copy() for name, output in zip(self._outputs, outputs)}

    def _check_loss(self, outputs):
        loss = float(next(iter(outputs.values())).asnumpy().mean())
        if not np.isfinite(loss):
            raise NotFinite(loss, self._faulty_gradients())

    def _check_gradients(self):
        faulty = self._faulty_gradients()
        if faulty:
            raise NotFinite(None, faulty)

    def _faulty_gradients(self):
        """The parameters whose gradients are not finite on a device (list of str, in the order of the graph)."""
        names = [name for name in self._module._param_names if self._module._exec_group.grad_req[name] != "null"]
        faulty = {names[place] for arrays in self._gradients() for place in not_finite(arrays)}
        return [name for name in names if name in faulty]

    def _heads(self, outputs):
        """The gradients of outputs that are losses, or need none."""
        value = 1.0 if self._loss_scale is None else self._loss_scale.value
        return [mx.nd.full(output.shape, value, ctx=output.context) for output in outputs]

    def _gradients(self):
        """Gradients by device (list of lists of NDArray)."""
        by_parameter = [arrays for arrays in self._module._exec_group.grad_arrays if arrays[0] is not None]
        return [list(arrays) for arrays in zip(*by_parameter)]

    def parameters(self):
        """Parameters and running statistics as they are now: two dicts of name to NDArray on the CPU."""
        # BN's gradient writes the running statistics without telling MXNet's engine: reading them does not wait for it.
        mx.nd.waitall()
        return self._module.get_params()

    def set_parameters(self, args, auxs):
        """Takes parameters and running statistics, all of them."""
        self._module.set_params(args, auxs, allow_missing=False, allow_extra=False)

    def state(self):
        """All that the next update depends on besides data: dict of ``arg:``, ``aux:`` and ``momentum:`` names."""
        args, auxs = self.parameters()
        if len(self.devices) > 1:
            # Each device has running statistics of its own. What is saved is their mean: this run goes on from it too.
            self.set_parameters(args, auxs)
        state = {f"arg:{name}": value for name, value in args.items()}
        state.update({f"aux:{name}": value for name, value in auxs.items()})
        for name, index in self._momentum_indices().items():
            momentum = self._module._updater.states.get(index)
            if momentum is not None:
                state[f"momentum:{name}"] = momentum.as_in_context(mx.cpu())
        if self._loss_scale is not None:
            state["scale:loss"] = self._loss_scale.state()
        return state

    def load_state(self, state):
        """Takes what `state` gave."""
        parts = {"arg": {}, "aux": {}, "momentum": {}}
        for key, value in state.items():
            part, _, name = key.partition(":")
            if part in parts:
                parts[part][name] = value
        check_fits(parts, dict(zip(("arg", "aux"), self.parameters())))
        self.set_parameters(parts["arg"], parts["aux"])
        if self._loss_scale is not None and "scale:loss" in state:
            self._loss_scale.load_state(state["scale:loss"])
        updater = self._module._updater
        for name, index in self._momentum_indices().items():
            if name in parts["momentum"] and self._momentum:
                for offset, device in enumerate(self.devices):
                    updater.states[index + offset] = parts["momentum"][name].copyto(device)
                    updater.states_synced[index + offset] = True

    def _momentum_indices(self):
        """Index of each parameter's momentum in the updater, on the first device."""
        names = self._module._param_names
        return {name: place * len(self.devices) for place, name in enumerate(names)}


def check_devices(batch_size, devices, workers=1):
    """SettingError where a batch does not divide among the devices of all workers."""
    count = len(devices) * workers
    if batch_size % count:
        of = f", {len(devices)} in each of {workers} workers" if workers > 1 else ""
        raise SettingError(f"batch_size={batch_size}: expected a multiple of the number of devices ({count}{of})")


class _Quiet:
    """Module wants a logger for remarks about what is on purpose here."""

    def warning(self, *_):
        pass

    info = warning


def parse_names(text):
    """``"cpu:0,cpu:1"`` as a list of (kind, number), there or not; SettingError for what is none."""
    names = []
    for item in text.split(","):
        kind, _, number = item.strip().partition(":")
        if kind not in ("cpu", "gpu") or not ((number or "0").isdecimal() and int(number or 0) < 256):
            raise SettingError(f"device {item.strip()!r}: expected cpu:N or gpu:N, separated by commas")
        names.append((kind, int(number or 0)))
    if len(set(names)) < len(names):
        raise SettingError(f"devices {text!r}: the same one is given twice")
    return names


def parse_devices(text):
    """``"cpu:0,cpu:1"`` as a list of mx.Context; SettingError or SetupError for what is none or is not there."""
    devices = [mx.Context(*name) for name in parse_names(text)]
    gpus = mx.context.num_gpus()
    for device in devices:
        if device.device_type == "gpu" and device.device_id >= gpus:
            raise SetupError(f"device {device}: MXNet sees {gpus} GPU(s) here; 'vargfacenet doctor' says more")
    return devices


def parse_device(text):
    """``"gpu:0"`` as an mx.Context; errors as of `parse_devices`, and for more than one."""
    device, *more = parse_devices(text)
    if more:
        raise SettingError(f"device {text!r}: expected one")
    return device
