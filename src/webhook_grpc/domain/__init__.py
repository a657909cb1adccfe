"""Pure policy: what the service means by its words, and what it decides. No I/O, no clock, no randomness.

model.py has the values and the closed lists: statuses, outcomes, and the reasons for which a webhook is disabled.
"""
