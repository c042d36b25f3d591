"""Multi Model Server's archives: ``.mar`` of its 1.x, ``.model`` of its 0.x; read, written, opened."""
