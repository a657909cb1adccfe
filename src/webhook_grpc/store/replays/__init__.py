"""Replays: their rows, which deliveries they choose, how they go on and end."""
