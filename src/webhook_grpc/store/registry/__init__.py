"""What customers and the platform set up: webhooks, their secrets and the keys that seal them, event types."""
