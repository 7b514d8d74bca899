"""PyTorch's version and its devices, in a line."""

import torch


def describe_torch() -> str:
    """Return PyTorch's version and the GPUs that it sees."""
    names = [f"cuda:{place} {torch.cuda.get_device_name(place)}" for place in range(torch.cuda.device_count())]
    return f"{torch.__version__}, {', '.join(names) or 'no GPU'}"
