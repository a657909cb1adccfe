"""What /metrics shows: each figure, its name and where it comes from. Only `writing.py` imports prometheus_client.

A figure is kept where its event happens; a source here shows it, and app.py lists the sources. merging.py puts those of
several processes side by side, with the label `process`, and adds nothing up.
"""
