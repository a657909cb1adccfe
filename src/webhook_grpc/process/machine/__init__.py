"""What a process has of its machine: file descriptors, memory, its marks in /proc."""
