"""How answers look: on a terminal, in a pipe, as JSON."""
