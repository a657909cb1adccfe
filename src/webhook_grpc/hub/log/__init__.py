"""The log as its readers share it: its live end, what is before it, and what watchers read when they begin."""
