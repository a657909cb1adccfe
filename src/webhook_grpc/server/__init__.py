"""What happens around every call (who calls, what is admitted, its line in the log), and the doors.

A door is a folder for each transport that calls come by.
"""
