"""What is known of the webhooks that the engine works for: their rows, their pace, the keys of their secrets."""
