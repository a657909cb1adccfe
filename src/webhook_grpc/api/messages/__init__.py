"""Between messages and domain values: reading, writing, and what many messages share."""
