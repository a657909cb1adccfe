"""Lists of events, deliveries and attempts, page by page."""
