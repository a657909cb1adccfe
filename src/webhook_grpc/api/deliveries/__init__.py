"""Deliveries as callers follow them: lists, acts on one, replays of many, and the live stream."""
