"""Without PyTorch the package says how to get it, and nothing of it is loaded before it is needed."""

import subprocess
import sys

import pytest

import vargfacenet.torch
from vargfacenet.errors import SetupError
from vargfacenet.torch import has_torch


def test_the_other_tests_of_the_engine_run_too():
    if not has_torch():
        pytest.skip("PyTorch is not installed (make install TORCH=1): the tests of the PyTorch engine were left out")


@pytest.mark.parametrize("name", ["load_module", "save_checkpoint", "SymbolModule"])
def test_a_missing_pytorch_is_named_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr("vargfacenet.torch.has_torch", lambda: False)
    with pytest.raises(SetupError, match=r"PyTorch is not installed.*pip install 'vargfacenet\[torch\]'"):
        getattr(vargfacenet.torch, name)


def test_the_package_loads_pytorch_only_when_it_is_used():
    code = "import sys, vargfacenet.torch, vargfacenet.train.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_model'"):
        vargfacenet.torch.load_model  # noqa: B018 - the look-up is the test


def test_gluoncv_is_imported_beside_a_current_pytorch():
    code = (
        "import vargfacenet, torch, gluoncv.utils; import torch as again; assert again.nn and gluoncv.utils.LRScheduler"
    )
    if not has_torch():
        code = "import vargfacenet, sys, gluoncv.utils; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
