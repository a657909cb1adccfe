"""The command line, against the real service: mostly called inside the tests' process, where a start costs nothing."""
