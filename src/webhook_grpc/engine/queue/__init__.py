"""What is due and in memory, and whose turn it is: lanes, and the fetcher that fills them from the table.

A lane counts the requests of its webhook that are in flight.
"""
