"""Protocols: what scores say of a network. NumPy in, NumPy out; nothing here knows a picture or a network."""
