"""What happens now, per webhook: rates from one stream, the rest from statistics that are read one after another."""
