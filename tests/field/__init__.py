"""The service on servers as people have them: the distribution's Postgres, its settings, poolers before it."""
