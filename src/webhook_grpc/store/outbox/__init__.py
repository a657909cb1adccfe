"""What is still to be delivered, and all that changes it: publishing, settling, expiry, commands; what engines note of it."""
