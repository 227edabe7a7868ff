"""What a decision leaves behind, so that anybody can ask why, and decide again.

Pure. The digest is over canonical JSON: two decisions have the same one only if they weighed the same.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from factory.task.v1 import Candidate, Receipt, RouteSource


def inputs_digest(inputs: Mapping[str, object]) -> str:
    """SHA-256, in hexadecimal, of what was weighed; values are plain, or sequences and mappings of plain values."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def receipt(
    policy_version: str,
    inputs: Mapping[str, object],
    because: str,
    *,
    world_read_to: int = 0,
    models_digest: str = "",
    candidates: Sequence[Candidate] = (),
    chosen: str = "",
    source: RouteSource = RouteSource.ROUTE_SOURCE_UNSPECIFIED,
) -> Receipt:
    """The receipt of one decision."""
    return Receipt(
        policy_version=policy_version,
        inputs_digest=inputs_digest(inputs),
        world_read_to=world_read_to,
        candidates=candidates,
        chosen=chosen,
        source=source,
        because=because,
        models_digest=models_digest,
    )
