"""The command line: ``bin/dimple``, and the same commands under ``flask --app app``."""
