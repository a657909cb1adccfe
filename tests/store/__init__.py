"""Every statement, its races and its plan, on a real Postgres."""
