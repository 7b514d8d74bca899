"""Protocols: rates computed from embeddings and labels, in NumPy alone; nothing here depends on images or networks."""
