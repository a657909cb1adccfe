"""Attacks on a running service of its own, and what its other clients felt: `make attack`."""
