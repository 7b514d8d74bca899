"""Run the command ``vargfacenet`` by ``python -m vargfacenet``."""

import sys

from vargfacenet.commands import main

sys.exit(main())
