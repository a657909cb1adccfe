"""Deliveries as they change, one line each, and what is said about the stream beside them."""
