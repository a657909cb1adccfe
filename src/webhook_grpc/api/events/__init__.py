"""Events as callers publish and read them: one or many, their types, and why one went where it went."""
