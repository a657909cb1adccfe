"""The doors: what happens around every call, and what speaks a transport."""
