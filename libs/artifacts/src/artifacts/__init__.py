"""Content-addressed blobs: prompts, packs, changes, transcripts and free text, which facts name by digest.

Never interprets what it stores, and never answers with bytes that are not those asked for.
"""

from artifacts.directory import DirectoryArtifacts
from artifacts.store import ArtifactDamaged, ArtifactMissing, Artifacts, digest_of, ref_for

__all__ = ["ArtifactDamaged", "ArtifactMissing", "Artifacts", "DirectoryArtifacts", "digest_of", "ref_for"]
