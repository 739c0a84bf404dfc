"""Addresses that may hold a name and a password: `http://user:password@host`. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# To the last @: a password may hold one, and a slash, though then it is no address.
_USER_INFO = re.compile(r"(?<=://)\S*@")


def without_user_info(text: str) -> str:
    """An address, or a text with one, without the name and the password in it."""
    return _USER_INFO.sub("***@", text)


def is_address(text: str) -> bool:
    """Whether a library can read it: else its complaint would quote what may be a password."""
    try:
        urlsplit(text).port  # noqa: B018 - it raises
    except ValueError:
        return False
    return "://" in text or text.startswith("unix:")
