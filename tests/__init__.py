"""The test suite. The package is imported before anything else: MXNet cannot be imported on current NumPy without it."""

import vargfacenet  # noqa: F401
