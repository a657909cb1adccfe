"""The HTTP door: a real service, a real HTTP client."""
