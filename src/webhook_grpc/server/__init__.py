"""What happens around every call (who calls, how many at once, whose turn it is, its line in the log), and the doors.

A door is a folder for each transport that calls come by. The numbers of all bounds are fields of settings.py.
"""
