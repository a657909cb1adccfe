"""The HTTP client against real sockets, and the engine as a whole."""
