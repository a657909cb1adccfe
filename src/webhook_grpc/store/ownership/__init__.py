"""Which process delivers what: the rows of workers and shards, and the ends of leases."""
