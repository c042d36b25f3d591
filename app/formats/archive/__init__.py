"""Multi Model Server's archives, ``.mar`` of its 1.x and ``.model`` of its 0.x: reading, writing and opening."""
