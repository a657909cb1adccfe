"""The tables and where they are: migrations, daily partitions, versions of programs, the embedded Postgres.

Partitions are made, detached and dropped by functions of migrations/.
"""
