"""One connection to Postgres: its settings, its deadlines, what a server must be, and what errors mean."""
