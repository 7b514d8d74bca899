"""Margin losses: how a classifier over cosines is made harder for the own identity.

>>> from vargfacenet.symbols.margins import CosineHead, get_margin, margin_head
>>> head = CosineHead(get_margin("adaface", margin=0.4), scale=64.0)
"""

from vargfacenet.symbols.margins.adadistill import adadistill
from vargfacenet.symbols.margins.head import CosineHead, margin_head
from vargfacenet.symbols.margins.losses import MARGINS, TEACHER_MARGINS, get_margin
from vargfacenet.symbols.margins.margin import MarginLoss, Samples

__all__ = [
    "MARGINS",
    "TEACHER_MARGINS",
    "CosineHead",
    "MarginLoss",
    "Samples",
    "adadistill",
    "get_margin",
    "margin_head",
]
