"""The text of an API key: how it is made, recognised and compared.

`csk_` + 12 characters that name the key (and may be shown) + `_` + 43 characters of secret, 256 random bits. A fixed
beginning lets secret scanners find keys that were published by mistake.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

PATTERN = r"csk_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}"
_ALPHABET = string.ascii_letters + string.digits
_PREFIX = len("csk_") + 12


@dataclass(frozen=True, slots=True)
class Secret:
    """A whole key. It is shown once, to whoever made it; the records get `prefix` and `sha256`."""

    text: str

    def __repr__(self) -> str:
        return f"Secret({self.prefix}...)"  # a log line or a traceback must not hold the rest

    @property
    def prefix(self) -> str:
        return self.text[:_PREFIX]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def matches(self, sha256: str) -> bool:
        """Compared in constant time: an answer's delay tells nothing about the hash."""
        return hmac.compare_digest(self.sha256, sha256)


def make() -> Secret:
    name = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return Secret(f"csk_{name}_{secrets.token_urlsafe(32)}")


def parse(text: str) -> Secret | None:
    """The key that `text` is, or None where it has not the form of one."""
    return Secret(text) if re.fullmatch(PATTERN, text) else None
