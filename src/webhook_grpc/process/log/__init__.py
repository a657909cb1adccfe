"""The log of a process: what a line holds, where lines wait for stderr, and what is reported without being called."""
