"""What /metrics shows: each figure, its name and where it comes from. Only `writing.py` imports prometheus_client."""
