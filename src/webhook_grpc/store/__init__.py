"""The store: all SQL, each statement above the function that runs it. psycopg is imported only here.

Each change of state is one autocommit statement over arrays; no transaction spans a round trip, so a process that dies
at any moment leaves no lock and no half-made change behind.
"""
