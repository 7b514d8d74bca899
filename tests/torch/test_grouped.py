"""A grouped convolution, and one of all channels that does the same."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from vargfacenet.torch import grouped


@pytest.mark.parametrize(("filters", "channels", "groups"), [(16, 8, 4), (6, 12, 3), (4, 4, 1)])
def test_zeros_between_groups_change_neither_output_nor_gradients(filters, channels, groups):
    random = torch.Generator().manual_seed(0)
    data = torch.randn(2, channels, 7, 5, generator=random, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(filters, channels // groups, 3, 3, generator=random, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(data, weight, None, 2, 1, 1, groups)
    whole = grouped.with_zeros(weight, groups)
    assert whole.shape == (filters, channels, 3, 3)
    assert int((whole != 0).sum()) == weight.numel()
    found = functional.conv2d(data, whole, None, 2, 1)
    given = torch.randn(expected.shape, generator=random, dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (data, weight), given), torch.autograd.grad(expected, (data, weight), given)
    ):
        torch.testing.assert_close(one, other)


def test_on_a_cpu_groups_stay_as_they_are():
    data = torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    assert not grouped.pays(data, torch.zeros(16, 8, 3, 3, dtype=torch.bfloat16), 2)


@pytest.mark.parametrize(
    ("channels", "in_group", "kernel", "kind", "expected"),
    [
        (40, 8, 3, torch.bfloat16, True),
        (320, 8, 3, torch.bfloat16, True),
        (640, 8, 3, torch.bfloat16, False),
        (320, 160, 3, torch.bfloat16, False),  # was not measured: half of the products would be with zeros
        (40, 1, 3, torch.bfloat16, False),
        (320, 8, 7, torch.bfloat16, False),
        (40, 8, 3, torch.float32, False),
    ],
)
def test_a_gpu_computes_groups_as_one_where_that_was_measured(channels, in_group, kernel, kind, expected):
    data = SimpleNamespace(
        device=torch.device("cuda", 0),
        ndim=4,
        shape=(2, channels, 14, 14),
        dtype=kind,
        is_contiguous=lambda memory_format: memory_format == torch.channels_last,
    )
    assert grouped.pays(data, torch.zeros(channels, in_group, kernel, kernel), channels // in_group) is expected
