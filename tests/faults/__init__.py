"""What is broken on purpose, and compared afterwards."""
