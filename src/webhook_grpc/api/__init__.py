"""What each call does, whatever the door: messages in, messages out. Knows the store and the hub, and no transport.

methods.py lists the methods: their messages, the permission that each needs (domain/access.py has the permissions and
roles themselves), and whether the audit has them.
"""
