"""Finds out why a signature is wrong for a body and a secret. Pure: no I/O, `now` is an argument."""
