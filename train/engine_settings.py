"""The settings of the engine of a run; `vargfacenet.train.settings` has all settings, and says what is made of them."""

import dataclasses
from typing import Annotated, Optional

from vargfacenet.options import About


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """Engine."""

    engine: Annotated[
        str,
        About(
            "What computes: mxnet, torch (PyTorch), or auto, which is torch on cuda devices and mxnet elsewhere.",
            choices=("auto", "mxnet", "torch"),
            may_change=True,
        ),
    ] = "auto"
    channels_last: Annotated[
        bool, About("With engine=torch, keep the channels of a pixel together in memory.", may_change=True)
    ] = False
    compile: Annotated[
        bool, About("With engine=torch, let torch.compile make kernels of the graph first.", may_change=True)
    ] = False
    cuda_graphs: Annotated[
        bool,
        About(
            "With engine=torch on a GPU, record the passes of the network once and start them with one call; for networks "
            "whose kernels are shorter than the time to start them.",
            may_change=True,
        ),
    ] = False
    readers: Annotated[
        Optional[int],
        About(
            "With engine=torch, processes that read and decode images; 0 for threads, none for one process for two cores on "
            "a GPU and threads on a CPU.",
            low=0,
            high=64,
            unit="processes",
            may_change=True,
        ),
    ] = None
    check_memory: Annotated[
        bool,
        About(
            "Refuse to start a run whose plan (docs/scaling.md) does not fit into the memory that is free; false starts it "
            "all the same, where the estimate is wrong.",
            may_change=True,
        ),
    ] = True
