"""What the doors and the engine share in a process, and what runs there: publishing, the tail of the log, hints."""
