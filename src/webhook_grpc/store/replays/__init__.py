"""Replays: calls on their rows, which deliveries they choose, and how they go on and end."""
