"""A cluster of a head, two nodes and two servers on one machine, and what is done to it."""
