"""The schema and where it lives: migrations, partitions, the embedded server."""
