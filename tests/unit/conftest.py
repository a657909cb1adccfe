"""How property tests run: without a deadline for each example, because the machine may be busy with other tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
