"""An update on a device other than the CPU, by tensors that have shapes and no numbers: this needs no GPU.

The device is one that PyTorch lets Python define. Its operators compute shapes, refuse tensors of two devices, and show what
is copied to the device and back.
"""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.torch.compare import drawn_values
from tests.torch.test_losses import recipe, small_batch, small_trainer
from tests.torch.test_operators import CASES
from vargfacenet.errors import SettingError
from vargfacenet.symbols.registry import LOSSES
from vargfacenet.torch import transfers, uploads
from vargfacenet.torch.devices import parse_torch_devices
from vargfacenet.torch.graph import SymbolModule
from vargfacenet.torch.outputs import HostCopy
from vargfacenet.torch.precision import without_tf32

NAME = "fakegpu"


# When tests are collected: autograd knows the devices of its first backward pass, which another test may have made. A process
# has one kind of accelerator: where there is a GPU, its tests say what these say.
_REGISTER = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
if torch.cuda.is_available():
    _REGISTER = None
if _REGISTER is not None:
    _REGISTER(NAME)


@pytest.fixture(scope="module")
def device():
    if _REGISTER is None:
        pytest.skip("there is a GPU, or this PyTorch lets Python define no device")
    return torch.device(NAME, 0)


class Events:
    """In the place of ``torch.cuda.Event``: which streams were marked, and how often somebody waited."""

    marked, waits = [], 0

    def record(self, stream):
        Events.marked.append(stream)

    def synchronize(self):
        Events.waits += 1


class Copies(TorchDispatchMode):
    """Notes what crosses between host and device; the fused optimizers, which have no shapes to compute, are only checked."""

    def __init__(self, device):
        super().__init__()
        self.uploads, self.waiting, self._device, self.optimized = [], [], device, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        if "_fused_" in str(function):
            assert {one.device for one in tensors} == {self._device}
            self.optimized += 1
            return None
        found = function(*args, **(kwargs or {}))
        kinds = {one.device.type for one in [*tensors, found] if isinstance(one, torch.Tensor) and one.ndim}
        if kinds >= {"cpu", NAME}:
            self.uploads.append(tensors[0])
            if not ((kwargs or {}).get("non_blocking") or args[2:] == (True,)):
                self.waiting.append(str(function))
        return found


def moved(module, device=None, memory_format=torch.preserve_format):
    """``module.to``, whose own form cannot exchange parameters that have no numbers."""
    for tensors in (module._parameters, module._buffers):
        for name, value in tensors.items():
            layout = memory_format if value.ndim == 4 else torch.preserve_format
            found = torch.empty_like(value, device=device, memory_format=layout)
            tensors[name] = torch.nn.Parameter(found, value.requires_grad) if tensors is module._parameters else found
    return module


@pytest.fixture
def gpu(monkeypatch, device):
    """The device in the place of a GPU, and the identities of the tensors in pinned memory."""
    held = []

    def pinned(shape, dtype):
        held.append(torch.empty(tuple(shape), dtype=dtype))
        return held[-1]

    monkeypatch.setattr(SymbolModule, "to", moved)
    for module in (transfers, uploads):
        monkeypatch.setattr(module, "pinned", pinned)
    monkeypatch.setattr("vargfacenet.torch.outputs.pinned", pinned)
    monkeypatch.setattr(torch.cuda, "Event", Events)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: device)
    monkeypatch.setattr(Events, "marked", [])
    monkeypatch.setattr(Events, "waits", 0)
    return held


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in LOSSES.names()),
        *((name, {"head": "sharded", "sample_rate": 0.6}) for name in LOSSES.names() if LOSSES[name].sharded),
        ("margin", {"accumulate": 3}),
        ("margin", {"optimizer": "adamw", "ema_decay": 0.5, "clip_gradient": 0.1, "channels_last": True}),
    ],
    ids=str,
)
def test_an_update_stays_on_its_device_and_waits_for_no_copy(name, settings, device, gpu):
    config = recipe(name, **settings)
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer = small_trainer(config, [device])
        assert {value.device for value in trainer_tensors(trainer)} == {device}
        batches = [small_batch(update, config) for update in range(2)]
        with Copies(device) as copies:
            for batch in batches:
                trainer.launch(batch)
    assert copies.optimized >= 2
    assert copies.waiting == []
    assert copies.uploads
    for one in copies.uploads:
        assert one.device == device or any(one is buffer for buffer in gpu), "a copy from memory that is not pinned"
    assert set(Events.marked) == {device}  # of the device, whichever is the current one


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_on_the_device_of_its_inputs(name, device, monkeypatch):
    monkeypatch.setattr(SymbolModule, "to", moved)
    symbol, shape = CASES[name]
    given = [one for one in ("data", "other") if one in symbol.list_arguments()]
    values = drawn_values(symbol, **dict.fromkeys(given, shape))
    with FakeTensorMode():
        module = SymbolModule(symbol.tojson(), {key: value.shape for key, value in values.items()}, given).to(device)
        inputs = [torch.empty(shape, device=device, requires_grad=True) for _ in given]
        with Copies(device) as copies:
            for training in (False, True):
                outputs = module.train(training)(*inputs)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                assert {one.device for one in outputs} == {device}
            ends = [one for one in outputs if one.requires_grad]
            if ends:
                torch.autograd.backward(ends, [torch.ones_like(one) for one in ends])
    assert copies.uploads == []


def trainer_tensors(trainer):
    network = getattr(trainer, "network", trainer)
    return [*network.module.parameters(), *network.module.buffers()]


def test_what_goes_to_the_host_is_awaited_when_it_is_read(device, gpu):
    with FakeTensorMode():
        copy = HostCopy(torch.empty(3, device=device))
    assert (Events.marked, Events.waits) == ([device], 0)
    with contextlib.suppress(RuntimeError, NotImplementedError):  # there are no numbers
        copy.numpy()
    assert Events.waits == 1


def test_one_gpu_for_all_workers_of_a_machine_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(
        SettingError, match="each of the 2 workers of this machine would take the same GPU; expected 'cuda'"
    ):
        parse_torch_devices("cuda:0")


def test_float32_is_not_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    without_tf32()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
