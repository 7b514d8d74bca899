"""PyTorch's eager training of the same network, on the CPU; runs in an environment of its own.

The network is built from the published graph, node by node, so that both train the same one.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

NUM_IDENTITIES = 1000
SCALE, MARGIN = 64.0, 0.5


def prepare(
    *, graph: str, shapes: dict[str, list[int]], batch_size: int, updates: int, channels_last: bool, threads: int
) -> Callable[[], dict[str, Any]]:
    """Prepare training of `graph`, a symbol as JSON; `shapes` are those of its arguments, `data` included."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network = Graph(graph, shapes)
    images = torch.rand(batch_size, *shapes["data"][1:]) * 255
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(NUM_IDENTITIES, (batch_size,))
    with torch.no_grad():
        size = network(images[:2]).shape[1]
    classifier = nn.Parameter(torch.randn(NUM_IDENTITIES, size) * 0.01)
    optimizer = torch.optim.SGD([*network.parameters(), classifier], lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def turn() -> dict[str, Any]:
        for _ in range(updates):
            optimizer.zero_grad(set_to_none=True)
            loss = margin_loss(network(images), classifier, labels)
            loss.backward()
            optimizer.step()
        return {"items": updates * batch_size, "loss": float(loss.detach())}

    return turn


def margin_loss(embeddings: torch.Tensor, classifier: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """ArcFace, as `vargfacenet.symbols.heads.margin_softmax` with its defaults."""
    cosines = functional.linear(functional.normalize(embeddings), functional.normalize(classifier))
    true = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    with_margin = torch.cos(torch.arccos(true) + MARGIN)
    return functional.cross_entropy(SCALE * cosines.scatter(1, labels[:, None], with_margin), labels)


class Graph(nn.Module):
    """An MXNet symbol as a PyTorch module: (N, 3, 112, 112) -> (N, embedding_size).

    Knows the operators of this project's published graphs; the names of its parameters are theirs, ``.`` excepted.
    """

    def __init__(self, text: str, shapes: dict[str, list[int]]) -> None:
        super().__init__()
        graph = json.loads(text)
        self.nodes = graph["nodes"]
        self.head = graph["heads"][0][0]
        for node in self.nodes:
            if node["op"] == "null" and node["name"] != "data" and node["name"] in shapes:
                self.register_parameter(node["name"], nn.Parameter(_initial(node["name"], shapes[node["name"]])))
            elif node["op"] == "BatchNorm":
                channels = shapes[self.nodes[node["inputs"][1][0]]["name"]]
                self.register_buffer(f"{node['name']}_moving_mean", torch.zeros(channels))
                self.register_buffer(f"{node['name']}_moving_var", torch.ones(channels))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        values = {}
        for place, node in enumerate(self.nodes):
            if node["op"] == "null":
                values[place] = data if node["name"] == "data" else getattr(self, node["name"], None)
            else:
                inputs = [values[source[0]] for source in node["inputs"]]
                values[place] = OPERATORS[node["op"]](self, node, node.get("attrs", {}), *inputs)
        return values[self.head]


def _initial(name, shape):
    if name.endswith("_weight"):
        fan_out = shape[0] * (shape[2] * shape[3] if len(shape) == 4 else 1)
        return torch.randn(shape) * (2 / fan_out) ** 0.5
    if "act" in name or "relu" in name:
        return torch.full(shape, 0.25)
    return torch.ones(shape) if name.endswith("_gamma") else torch.zeros(shape)


def _numbers(text):
    return tuple(int(number) for number in text.strip("()").replace(" ", "").split(",") if number)


def _convolution(module, node, attrs, data, weight, bias=None):
    return functional.conv2d(
        data,
        weight,
        bias,
        stride=_numbers(attrs.get("stride", "(1, 1)")),
        padding=_numbers(attrs.get("pad", "(0, 0)")),
        groups=int(attrs.get("num_group", 1)),
    )


def _norm(module, node, attrs, data, gamma, beta, mean, variance):
    if attrs.get("fix_gamma", "True") == "True":
        gamma = None
    return functional.batch_norm(
        data,
        getattr(module, f"{node['name']}_moving_mean"),
        getattr(module, f"{node['name']}_moving_var"),
        gamma,
        beta,
        training=module.training,
        momentum=1 - float(attrs.get("momentum", 0.9)),
        eps=float(attrs.get("eps", 1e-3)),
    )


def _activation(module, node, attrs, data):
    return {"relu": torch.relu, "sigmoid": torch.sigmoid}[attrs["act_type"]](data)


def _scalar(operation):
    return lambda module, node, attrs, data: operation(data, float(attrs["scalar"]))


def _pair(operation):
    return lambda module, node, attrs, left, right: operation(left, right)


OPERATORS = {
    "Convolution": _convolution,
    "BatchNorm": _norm,
    "Activation": _activation,
    "LeakyReLU": lambda module, node, attrs, data, slope: functional.prelu(data, slope),
    "Pooling": lambda module, node, attrs, data: data.mean((2, 3), keepdim=True),
    "FullyConnected": lambda module, node, attrs, data, weight, bias: functional.linear(data.flatten(1), weight, bias),
    "Flatten": lambda module, node, attrs, data: data.flatten(1),
    "Dropout": lambda module, node, attrs, data: functional.dropout(data, float(attrs.get("p", 0.5)), module.training),
    "_copy": lambda module, node, attrs, data: data,
    "_minus_scalar": _scalar(torch.sub),
    "_mul_scalar": _scalar(torch.mul),
    "elemwise_add": _pair(torch.add),
    "broadcast_mul": _pair(torch.mul),
}
