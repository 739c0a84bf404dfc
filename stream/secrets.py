"""Which settings are secret, and the secrets that stand in files."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr

from stream.errors import SettingError

_SECRET_OPTION = re.compile(
    r"passw|passphrase|secret|token|credential|jaas|key\.pem|certificate\.pem|oauthbearer\.config|kinit\.cmd",
    re.IGNORECASE,
)


def is_secret_option(name: str) -> bool:
    """Whether the value of this librdkafka option must never be printed."""
    return _SECRET_OPTION.search(name) is not None


def read_secret(value: SecretStr, file: Path | None, setting: str) -> str:
    """The secret itself: from its file if one is set, else from the setting.

    Raises:
        SettingError: the file cannot be read.
    """
    return value.get_secret_value() if file is None else read_secret_file(file, setting)


def read_secret_file(file: Path, setting: str) -> str:
    """A file's content without the white space around it.

    Raises:
        SettingError: it cannot be read; the message names the setting.
    """
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingError(f"{setting}: {file} cannot be read: {reason}") from error
