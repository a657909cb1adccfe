"""JSON between the HTTP door and the messages of the API: read, written, value by value."""
