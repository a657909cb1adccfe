"""The log of what happened: its rows, reading it on from a position, and what is looked up or counted in it."""
