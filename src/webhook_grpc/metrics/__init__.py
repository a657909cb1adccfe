"""What /metrics shows: each figure, its name and where it comes from. The only room that imports prometheus_client."""
