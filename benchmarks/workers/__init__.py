"""The processes beside the service: load generators, bare clients, the sink. Each ends when its standard input ends."""
