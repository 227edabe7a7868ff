"""Password hashing with scrypt. A stored hash carries its own salt and cost."""

from __future__ import annotations

import hashlib
import hmac
import secrets

COST = 2**14
BLOCK_SIZE = 8
PARALLELISM = 1
SALT_BYTES = 16


def hash_password(password: str) -> str:
    """A hash that `matches` can check later."""
    salt = secrets.token_bytes(SALT_BYTES)
    return f"scrypt${COST}${salt.hex()}${_digest(password, salt, COST).hex()}"


def matches(password: str, stored: str) -> bool:
    """Whether this is the password that was hashed, compared in constant time."""
    _, cost, salt, digest = stored.split("$")
    actual = _digest(password, bytes.fromhex(salt), int(cost))
    return hmac.compare_digest(actual, bytes.fromhex(digest))


def _digest(password: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=BLOCK_SIZE, p=PARALLELISM)
