"""The store against an executable model of it; the engine under a virtual clock, over a database that is played."""
