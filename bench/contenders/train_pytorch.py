"""PyTorch's eager training of the same network, on the CPU; runs in an environment of its own.

The network is read from the published graph, node by node, by `vargfacenet.torch.graph`, so that both train the same one.
PReLU and BN are PyTorch's own here, as in a module written by hand, and not those of the engine.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

NUM_IDENTITIES = 1000
SCALE, MARGIN = 64.0, 0.5


def prepare(
    *,
    graph: str,
    shapes: dict[str, list[int]],
    batch_size: int,
    updates: int,
    channels_last: bool,
    threads: int,
    package: str,
) -> Callable[[], dict[str, Any]]:
    """Prepare training of `graph`, a symbol as JSON.

    `shapes` are those of its arguments and running statistics, `data` included; `package` is the folder that holds
    ``vargfacenet``.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network = read_graph(package, graph, shapes)
    images = torch.rand(batch_size, *shapes["data"][1:]) * 255
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(NUM_IDENTITIES, (batch_size,))
    with torch.no_grad():
        size = network(images[:2]).shape[1]
    classifier = nn.Parameter(torch.randn(NUM_IDENTITIES, size) * 0.01)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD([*trained, classifier], lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def turn() -> dict[str, Any]:
        for _ in range(updates):
            optimizer.zero_grad(set_to_none=True)
            loss = margin_loss(network(images), classifier, labels)
            loss.backward()
            optimizer.step()
        return {"items": updates * batch_size, "loss": float(loss.detach())}

    return turn


def read_graph(package: str, text: str, shapes: dict[str, list[int]]) -> nn.Module:
    """Return a graph as a module in training mode: (N, 3, 112, 112) -> (N, embedding_size)."""
    sys.path.append(package)
    graph = importlib.import_module("vargfacenet.torch.graph")
    graph.OPERATORS.update(BatchNorm=batch_norm, LeakyReLU=prelu)
    return graph.SymbolModule(text, shapes)


def batch_norm(attributes: Any) -> Callable[..., torch.Tensor]:
    """Return PyTorch's own BN; its running variance follows the unbiased one."""
    eps, momentum = float(attributes.value("eps", 1e-3)), float(attributes.value("momentum", 0.9))
    fixed = attributes.flag("fix_gamma", True)
    for name in ("use_global_stats", "axis", "output_mean_var"):
        attributes.value(name, None)

    def run(training: bool, data: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, *running: torch.Tensor) -> Any:
        mean, variance = running
        scale = None if fixed else gamma
        return functional.batch_norm(data, mean, variance, scale, beta, training, 1 - momentum, eps)

    return run


def prelu(attributes: Any) -> Callable[..., torch.Tensor]:
    """Return PyTorch's own PReLU."""
    attributes.choice("act_type", ("prelu",))
    attributes.value("slope", None)
    return lambda training, data, slopes: functional.prelu(data, slopes)


def margin_loss(embeddings: torch.Tensor, classifier: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """ArcFace, as `vargfacenet.symbols.heads.margin_softmax` with its defaults."""
    cosines = functional.linear(functional.normalize(embeddings), functional.normalize(classifier))
    true = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    with_margin = torch.cos(torch.arccos(true) + MARGIN)
    return functional.cross_entropy(SCALE * cosines.scatter(1, labels[:, None], with_margin), labels)
