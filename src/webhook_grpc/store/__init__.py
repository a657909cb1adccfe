"""The store: every SQL statement, above the function that runs it. No loop runs here. Only here is psycopg.

The copy of publishing for applications' own transactions is in migration 0004. Moments that rows keep are computed in
the statement, by the database's clock.
"""
