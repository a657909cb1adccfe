"""Deliveries as callers follow them: lists, acts on one and their effects, replays, the live stream."""
