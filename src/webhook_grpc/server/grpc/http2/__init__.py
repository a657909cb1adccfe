"""HTTP/2 as the gRPC door needs it: frames, header blocks, streams, connections. Knows nothing of gRPC.

What comes: incoming.py cuts bytes into frames, read_scheduling.py shares the loop between connections, streams.py gives
them to their stream, stream.py takes in what is read of them, and opens its window (the connection's: streams.py). What
is sent: sending.py. What a client may cost: budgets.py in frames, bounds.py in streams and bytes, lifetime.py in time:
every timeout of a connection.
"""
