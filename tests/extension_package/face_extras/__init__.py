"""What this package adds to VarGFaceNet: a network, a loss, a distillation loss, an augmentation, a callback, a recipe."""
