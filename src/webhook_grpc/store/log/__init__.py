"""The log of attempts: its rows, the live feed, and what is looked up or counted in it."""
