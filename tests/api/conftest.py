"""Tests of the API share a service in each module."""

from tests.support.sharing import receiver, service, services, shared, shared_settings

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]
