"""The tests of the store on Citus, a schema for each cell; skipped where there is no Citus."""
