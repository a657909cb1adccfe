"""What several processes of a machine have to do with each other: a parent, its children, and those that are dead."""
