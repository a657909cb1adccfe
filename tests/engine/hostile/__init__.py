"""Receivers that mean harm, as data, and what runs them: `python -m tests.engine.hostile` prints how each one ends."""
