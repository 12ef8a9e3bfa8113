"""Path converters."""


class FileName:
    """Whatever follows: slashes, and line breaks too, which Django's own `path` leaves out."""

    regex = r"[\s\S]+"

    def to_python(self, value: str) -> str:
        """As it is."""
        return value

    def to_url(self, value: str) -> str:
        """As it is."""
        return value
