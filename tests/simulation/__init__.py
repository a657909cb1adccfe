"""The store against an executable model of it."""
