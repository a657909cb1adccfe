"""The log of what happened to deliveries: its rows, reading it on from a position, and what calls look up or count."""
