"""What happens around every call, and the doors: a folder for each transport that calls come by."""
