"""What goes wrong in a command itself."""

from stream.errors import DejaviewError


class CommandError(DejaviewError):
    """The command cannot do what it was asked to; the message says why and what to do."""
