"""Connections to Postgres: how they are opened, what a server must be, what its errors mean."""
