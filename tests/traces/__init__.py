"""Traces of attempts: what a collector gets, what receivers get, and what happens without a collector."""
