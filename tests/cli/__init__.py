"""The command line: what it decides, and against the live service."""
