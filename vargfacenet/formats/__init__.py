"""File formats: checkpoints, graphs, arrays and images. Readers check what a file states before they act on it."""
