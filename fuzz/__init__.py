"""Random damage for everything that reads files from strangers: ``make fuzz``."""
