"""A plain network on everything that this package adds."""

recipe = {
    "network": "plainnet",
    "widths": (4, 8),
    "network.scale": 1 / 64,
    "loss": "smoothed_softmax",
    "loss.scale": 8.0,
    "distillation": "huber",
    "distillation.width": 0.5,
    "augmentations": ("darken",),
    "most": 0.25,
    "callbacks": ("weight_norms",),
    "weight_norms.every": 2,
    "embedding_size": 16,
    "batch_size": 8,
    "max_updates": 4,
    "lr": 0.05,
    "schedule": "cosine",
    "verify_every": 4,
    "save_every": 4,
    "log_every": 1,
}
