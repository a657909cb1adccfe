"""The parent of several processes (`serve --processes`): starts, watches and ends them. It never imports grpc.

It holds the addresses, owns the embedded Postgres, ends the lease of a child that died, and passes on what the children
have to say to each other. It answers no caller.
"""
