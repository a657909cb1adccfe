"""One service for a module: most tests type lines and read what is printed."""

from tests.support.sharing import receiver, service, services, shared, shared_settings

__all__ = ["receiver", "service", "services", "shared", "shared_settings"]
