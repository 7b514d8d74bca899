"""A checkpoint as a PyTorch module in the hands of others: optimizers, copies, files, types, tracing."""

import copy
import importlib
import io

import mxnet as mx
import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize, prune

from tests.torch.compare import relative
from vargfacenet.errors import CheckpointError
from vargfacenet.formats.checkpoint import load_checkpoint
from vargfacenet.torch import load_module, save_checkpoint
from vargfacenet.torch.prelu import prelu


def images(count=4):
    return torch.from_numpy(np.random.RandomState(0).uniform(0, 255, (count, 3, 112, 112)).astype(np.float32))


@pytest.fixture
def module(teacher_prefix):
    return load_module(teacher_prefix)


def embedded(module, data=None):
    with torch.no_grad():
        return module(images() if data is None else data).float().numpy()


def test_names_are_those_of_the_checkpoint(module, teacher_prefix):
    _, args, auxs = load_checkpoint(teacher_prefix, 0)
    assert set(module.state_dict()) == {*args, *auxs}
    assert [name for name, _ in module.named_parameters()] == list(module.parameter_names)
    assert "data -> " in repr(module)
    assert "parameters" in repr(module)


def test_an_optimizer_of_the_users_trains_it_and_the_checkpoint_has_what_it_learned(module, tmp_path):
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    wanted, losses = torch.nn.functional.normalize(torch.randn(4, 16, generator=torch.manual_seed(0))), []
    module.train()
    for _ in range(6):
        optimizer.zero_grad()
        found = torch.nn.functional.normalize(module(images()))
        loss = (found - wanted).square().sum(1).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    save_checkpoint(module, tmp_path / "mine")
    again = load_module(tmp_path / "mine")
    assert not again.training
    np.testing.assert_array_equal(embedded(again), embedded(module.eval()))


def test_copies_are_alike_and_independent(module):
    expected = embedded(module)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(module), torch.load(buffer, weights_only=False)):
        np.testing.assert_array_equal(embedded(other), expected)
        assert other.text == module.text
        with torch.no_grad():
            other.pre_fc1_weight.zero_()
        np.testing.assert_array_equal(embedded(module), expected)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float64, 1e-5)])
def test_it_computes_in_other_types(module, dtype, allowed, tmp_path):
    expected = embedded(module)
    other = copy.deepcopy(module).to(dtype)
    assert other(images().to(dtype)).dtype == dtype
    assert relative(embedded(other, images().to(dtype)), expected) < allowed
    save_checkpoint(other, tmp_path / "other")
    assert relative(embedded(load_module(tmp_path / "other")), expected) < allowed


def test_bytes_are_refused_with_the_remedy(module):
    with pytest.raises(
        TypeError, match=r"input 'data' is torch.uint8: expected a floating type; data.float\(\) is one"
    ):
        module(images().byte())
    with pytest.raises(TypeError, match=r"expected 1 inputs \(data\), got 2"):
        module(images(), images())


def test_tensors_that_others_put_in_the_place_of_parameters_count(module):
    expected = embedded(module)
    zeros = {"pre_fc1_weight": torch.zeros_like(module.pre_fc1_weight)}
    changed = torch.func.functional_call(module, zeros, (images(),)).detach().numpy()
    assert relative(changed, expected) > 0.1
    np.testing.assert_array_equal(embedded(module), expected)
    pruned = copy.deepcopy(module)
    prune.random_unstructured(pruned, "pre_fc1_weight", 0.9)
    assert relative(embedded(pruned), expected) > 0.1
    doubled = copy.deepcopy(module)
    parametrize.register_parametrization(doubled, "pre_fc1_weight", Zeros())
    np.testing.assert_allclose(embedded(doubled), changed, rtol=1e-6)


class Zeros(torch.nn.Module):
    def forward(self, weight):
        return weight * 0


def test_it_is_exported_and_traced(module):
    expected = embedded(module)
    exported = torch.export.export(module, (images(),), dynamic_shapes=({0: torch.export.Dim("images")},)).module()
    np.testing.assert_allclose(embedded(exported), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embedded(exported, images()[:2]), expected[:2], rtol=1e-4, atol=1e-5)
    traced = torch.jit.trace(module, images())
    np.testing.assert_allclose(embedded(traced), expected, rtol=1e-4, atol=1e-5)


def test_a_module_of_another_kind_is_not_saved(module, tmp_path, monkeypatch):
    # It would move the module to the device that test_device.py has registered.
    parallel = importlib.import_module("torch.nn.parallel.data_parallel")
    monkeypatch.setattr(parallel, "_get_available_device_type", lambda: None)
    with pytest.raises(CheckpointError, match="a Linear has no graph to save: expected a module that load_module"):
        save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "model")
    with pytest.raises(CheckpointError, match="a DataParallel has no graph to save.*save the one inside it"):
        save_checkpoint(torch.nn.DataParallel(module), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_a_module_is_one_of_mxnet(module, tmp_path):
    save_checkpoint(module, tmp_path / "model", 7)
    symbol, args, auxs = mx.model.load_checkpoint(str(tmp_path / "model"), 7)
    assert set(args) | set(auxs) == set(module.state_dict())
    assert symbol.list_arguments()[0] == "data"


@pytest.mark.parametrize("shape", [(5, 6, 4, 3), (5, 6)])
@pytest.mark.parametrize("slopes", [6, 1])
def test_prelu_has_the_gradients_of_pytorchs_own(shape, slopes):
    random = torch.manual_seed(0)
    data = torch.randn(shape, generator=random, dtype=torch.float64)
    data.view(-1)[:4] = 0  # where the slope counts
    given = [data.requires_grad_(), torch.rand(slopes, generator=random, dtype=torch.float64).requires_grad_()]
    weights = torch.randn(shape, generator=random, dtype=torch.float64)
    found = torch.autograd.grad((prelu(*given) * weights).sum(), given)
    expected = torch.autograd.grad((torch.nn.functional.prelu(*given) * weights).sum(), given)
    for one, wanted in zip(found, expected):
        torch.testing.assert_close(one, wanted)
    away = [(data.detach() + 0.5).requires_grad_(), given[1]]  # a slope has no gradient at the kink
    assert torch.autograd.gradcheck(prelu, away)
    assert torch.autograd.gradgradcheck(prelu, away)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slopes", [6, 1])
def test_the_gradients_of_prelu_do_not_depend_on_the_parts_of_the_batch(slopes, layout, monkeypatch):
    monkeypatch.setattr("vargfacenet.torch.prelu._PART", 2 * 6 * 4 * 3)
    random = torch.manual_seed(0)
    data = torch.randn(5, 6, 4, 3, generator=random, dtype=torch.float64).to(memory_format=layout)
    given = [data.requires_grad_(), torch.rand(slopes, generator=random, dtype=torch.float64).requires_grad_()]
    weights = torch.randn(data.shape, generator=random, dtype=torch.float64)
    found = torch.autograd.grad((prelu(*given) * weights).sum(), given)
    expected = torch.autograd.grad((torch.nn.functional.prelu(*given) * weights).sum(), given)
    assert found[0].is_contiguous(memory_format=layout)
    for one, wanted in zip(found, expected):
        torch.testing.assert_close(one, wanted)
    [alone] = torch.autograd.grad((prelu(data, given[1].detach()) * weights).sum(), data)
    torch.testing.assert_close(alone, expected[0])


def test_prelu_has_gradients_of_single_images():
    data, slopes = torch.randn(5, 1, 6, 4, generator=torch.manual_seed(0)), torch.rand(6)
    single = torch.func.vmap(torch.func.grad(lambda slopes, one: prelu(one, slopes).square().sum()), (None, 0))
    expected = torch.stack([(2 * slopes[:, None] * one[0].clamp(max=0).square()).sum(1) for one in data])
    torch.testing.assert_close(single(slopes, data), expected)
