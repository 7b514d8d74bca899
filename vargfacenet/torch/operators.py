"""MXNet's operators in PyTorch: the same values and the same gradients.

The table holds every operator of the bundled networks, of the losses, and of the checkpoints that
`vargfacenet.formats.graphs.read_graph` accepts. Where the libraries differ, MXNet's way counts; comments say where.
"""

from __future__ import annotations

from vargfacenet.torch import custom, layers, losses, pairs, selection, shapes
from vargfacenet.torch.registry import OPERATORS, Constant, Operator

__all__ = ["OPERATORS", "Constant", "Operator", "custom", "layers", "losses", "pairs", "selection", "shapes"]
