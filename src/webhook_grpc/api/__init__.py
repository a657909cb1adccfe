"""The gRPC door: requests become calls of the store, domain values become messages, errors become statuses."""
