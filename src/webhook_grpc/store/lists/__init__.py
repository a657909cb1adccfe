"""Pages of long lists with filters: events, deliveries, attempts. Short lists stand with the rows that they list.

delivery_statements.py has the SQL for deliveries.py; merged.py begins each statement with the customer and webhooks.
"""
