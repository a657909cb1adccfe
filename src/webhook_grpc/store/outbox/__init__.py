"""What is still to be delivered, every way in which that changes, and which process delivers it, with its own notes."""
