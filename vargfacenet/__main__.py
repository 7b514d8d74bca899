"""``python -m vargfacenet`` is the command ``vargfacenet``."""

import sys

from vargfacenet.commands import main

sys.exit(main())
