"""A cluster of two nodes and two fronts on one machine, and what is done to it."""
