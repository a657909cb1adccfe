"""Pure policy: what the service means by its words, and what it decides. No I/O, no clock, no randomness.

retry.py has the default delays, reads a Retry-After, and decides after each attempt: again and when, or the end, or
(410) that the webhook is disabled; disabling.py disables one that has failed for days. egress.py judges URLs and
addresses of receivers, when they are registered and when they are dialled; validation.py has the rules of all other
fields. What answers have taught stays in pace.py, breaker.py and throttle.py; whoever calls them counts what is in
flight. model.py has the values and the closed lists: statuses, outcomes, and the reasons for which a webhook is
disabled.
"""
