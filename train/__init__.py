"""Training: settings and recipes, the trainer, and what happens beside its updates."""
