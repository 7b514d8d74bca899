"""Without PyTorch only `test_without_torch` is collected, which says that the rest was left out."""

import pathlib

from vargfacenet.torch import has_torch

_HERE = pathlib.Path(__file__).parent
collect_ignore = [] if has_torch() else [p.name for p in _HERE.glob("test_*.py") if p.name != "test_without_torch.py"]
