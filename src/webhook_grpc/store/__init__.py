"""The store: every SQL statement, above the function that runs it. No loop runs here. Only here is psycopg.

Moments that rows keep are computed in the statement, by the database's clock.
"""
