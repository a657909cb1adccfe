"""The store: all SQL, each statement above the function that runs it. No loop runs here. Only here is psycopg."""
