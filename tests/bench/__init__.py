"""`make bench` itself: its rows, its workers, its bounds."""
