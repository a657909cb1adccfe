"""Who may call: tokens of both kinds, the audit of what they did, and the deletion of a customer."""
