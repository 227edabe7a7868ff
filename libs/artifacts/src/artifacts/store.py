"""What an artifact store promises, whatever lies behind it. No I/O here."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Protocol

from factory.artifact.v1 import ArtifactRef

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactMissing(LookupError):
    """Nothing is stored under this digest: never put, or erased."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"artifact {digest!r} is not in the store")
        self.digest = digest


class ArtifactDamaged(Exception):
    """What is stored under this digest has another one."""

    def __init__(self, digest: str, found: str) -> None:
        super().__init__(f"artifact {digest!r} is damaged: its bytes have the digest {found!r}")
        self.digest = digest
        self.found = found


class Artifacts(Protocol):
    async def put(self, data: bytes) -> ArtifactRef:
        """Store the bytes; when this returns they survive a power cut, so a fact may name them."""
        ...

    async def get(self, digest: str) -> bytes:
        """The bytes with this digest, verified; ArtifactMissing or ArtifactDamaged otherwise."""
        ...

    async def erase(self, digest: str) -> bool:
        """Forget the bytes for good; False when they were not there."""
        ...

    async def exists(self, digest: str) -> bool:
        """Whether something is stored under this digest; its content is not verified."""
        ...

    def digests(self) -> AsyncIterator[str]:
        """Every digest in the store, in order."""
        ...


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ref_for(data: bytes) -> ArtifactRef:
    return ArtifactRef(digest=digest_of(data), size=len(data))


def is_digest(text: str) -> bool:
    """A digest becomes part of a path: anything else is refused before it gets there."""
    return _DIGEST.fullmatch(text) is not None
