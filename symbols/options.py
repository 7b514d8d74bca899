"""Options that several networks share, each with its range and help."""

from collections.abc import Sequence
from typing import Annotated

from vargfacenet.options import About
from vargfacenet.symbols.layers import ACTIVATIONS

EmbeddingSize = Annotated[int, About("Numbers in an embedding.", low=1, high=65_536)]
Multiplier = Annotated[
    float, About("Factor of the channels; each product is cut to a whole number.", low=1 / 64, high=64)
]
GroupSize = Annotated[
    int, About("Channels in each group of a variable group convolution; channel counts are multiples of it.", 1, 65_536)
]
Units = Annotated[Sequence[int], About("Blocks of each stage, including the down-sampling block.", low=1, high=1000)]
UseSe = Annotated[bool, About("Squeeze and excitation in the blocks.")]
Activation = Annotated[str, About("PReLU, or one of MXNet's activations without parameters.", choices=ACTIVATIONS)]
Dropout = Annotated[
    float, About("Share of the numbers before the fully connected layer that training drops.", low=0, high=0.9)
]
