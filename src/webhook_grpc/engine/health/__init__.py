"""Whether deliveries move: what stands still, and what health and the log say of it."""
