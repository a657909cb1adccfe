"""What customers and the platform register: webhooks, their secrets, event types."""
