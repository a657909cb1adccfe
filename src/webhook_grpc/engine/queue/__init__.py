"""What is due and in memory, and whose turn it is: lanes, and the fetcher that fills them from the table."""
