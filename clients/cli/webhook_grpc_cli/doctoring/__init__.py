"""Checks of what lies between this machine and the service: each is fine, or says what to do."""
