"""What happens around every call (who calls, how many at once, whose turn it is, its line in the log), and the doors.

accepting.py takes connections, and their TLS handshakes in turn; call_limits.py counts the calls and streams that are
in progress, by the rules of domain/fair_shares.py: in all, per token, per customer. A door is a folder for each
transport that calls come by. The bounds that operators set are fields of settings.py.
"""
