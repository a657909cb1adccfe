"""What is still to be delivered, and all that changes it: publishing (which finds the webhooks, too), settling, expiry, commands."""
