"""API documents: Dimple's own and those of Multi Model Server, and a page that shows the first."""
