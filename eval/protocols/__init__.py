"""Protocols: what scores say of a network. NumPy in, NumPy out; nothing here knows an image or a network."""
