"""Ways to damage files: each takes a file's bytes and a source of chance, and gives the bytes of another."""
