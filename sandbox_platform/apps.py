"""The project's own app: tenants, keys, idempotency, processes, the queue."""

from django.apps import AppConfig


class PlatformConfig(AppConfig):
    """Registers the system checks."""

    name = "sandbox_platform"
    verbose_name = "Platform"

    def ready(self) -> None:
        """Import for registration."""
        from sandbox_platform import checks  # noqa: F401
