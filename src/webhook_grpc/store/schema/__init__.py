"""The tables and where they are: migrations, daily partitions, versions of programs, the embedded Postgres."""
