"""Commands that do one thing and end. cli.py names them."""
