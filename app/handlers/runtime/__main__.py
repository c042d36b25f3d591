"""``python app/handlers/runtime SOCKET PARENT``: what the server starts to run an archive's own Python.

This folder is then the first place where modules are looked for, and Dimple's own ``app`` is nowhere to be found."""

from __future__ import annotations

import sys

from dimple_child.main import main

sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
