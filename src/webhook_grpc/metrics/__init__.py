"""What /metrics shows: each figure, its name and where it comes from. Only `writing.py` imports prometheus_client.

merging.py puts those of several processes side by side, with the label `process`, and adds nothing up.
"""
