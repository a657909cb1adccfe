"""What each call does, whatever the door: messages in, messages out. Knows the store and the hub, and no transport."""
