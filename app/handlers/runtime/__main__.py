"""The program that runs an archive's own Python: ``python app/handlers/runtime SOCKET PARENT``.

This folder is then first on the module search path, and Dimple's own ``app`` is not on it.
"""

from __future__ import annotations

import sys

from dimple_child.main import main

sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
