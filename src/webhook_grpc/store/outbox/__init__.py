"""What is still to be delivered, and all that changes it: publishing, settling, expiry, commands.

Publishing also finds the webhooks that an event goes to.
"""
