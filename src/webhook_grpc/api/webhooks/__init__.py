"""Webhooks as callers set them up: their fields, secrets and signing keys, what of them is sealed, their figures."""
