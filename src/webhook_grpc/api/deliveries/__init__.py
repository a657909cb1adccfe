"""Deliveries as callers follow them: lists, acts on one and when they have had their effect, replays, the live stream."""
