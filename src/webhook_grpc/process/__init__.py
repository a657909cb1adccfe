"""What a process is made of, whatever it does: its log, its signals, its loop, what it prints."""
