"""Who may call: stored and signed tokens, the audit of what they did, and the deletion of a customer."""
