"""What goes wrong with servers on this machine, in words that name the fix."""

from stream.errors import DejaviewError


class LocalError(DejaviewError):
    """A server could not be fetched, started or ended on this machine."""
