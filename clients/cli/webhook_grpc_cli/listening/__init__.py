"""A receiver on this machine that verifies, prints and passes on what the service sends."""
