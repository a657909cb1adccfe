"""The store: every SQL statement, above the function that runs it. No loop runs here. Only here is psycopg."""
