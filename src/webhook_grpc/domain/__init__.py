"""Pure policy: what the service means by its words, and what it decides. No I/O, no clock, no randomness."""
