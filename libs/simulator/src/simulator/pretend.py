"""What one call gets, and what it costs: decided before a single byte of the answer leaves.

Pure: the prompt cache and the wishes to misbehave are arguments, and so are time and ids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator import answers
from simulator.call import Asked, Finish, Reply, pieces_of, reasons
from simulator.misbehaviour import Misbehaviour, Mode
from simulator.prompt import read_prompt
from simulator.tokens import CHARACTERS_PER_TOKEN, Buckets, PromptCache, tokens_for, tokens_in

REASONING_TOKENS_MIN = 32
# Of the answer's own tokens, one quarter is thought beforehand.
REASONING_SHARE = 4
# A picture costs what the provider's pages name for a large one, whatever its size: Anthropic's 1,600 (width × height
# / 750, scaled down to that), OpenAI's 70 and eight tiles of 140, Google's 1,120 at high resolution.
IMAGE_TOKENS = {"anthropic": 1_600, "openai": 1_190, "gcp.gemini": 1_120}
IMAGE_TOKENS_OTHERS = 1_600
_REFUSAL = "I can't help with that."
_ERRORS = {Mode.RATE_LIMITED: 429, Mode.UNPAID: 402, Mode.BROKEN: 500, Mode.OVERLOADED: 529}
_CUTS = {Mode.CUT, Mode.STREAM_ERROR}


@dataclass(frozen=True, slots=True)
class Planned:
    """An answer and its price."""

    reply: Reply
    billed: Buckets
    wish: Misbehaviour | None = None

    @property
    def status(self) -> str:
        return self.wish.mode.value if self.wish else "ok"


def error_status(wish: Misbehaviour | None, asked: Asked) -> int | None:
    """The HTTP status of the error that was wished for; `None` where there is to be an answer."""
    if wish is None:
        return None
    if wish.mode == Mode.STREAM_ERROR and not asked.stream:
        return _ERRORS[Mode.BROKEN]
    return _ERRORS.get(wish.mode)


def planned(asked: Asked, wish: Misbehaviour | None, cache: PromptCache, *, id: str, created: int) -> Planned:
    """The whole answer, and what it will have cost however the caller behaves."""
    mode = wish.mode if wish else Mode.NONE
    text, finish = _text(asked, mode)
    # A file too large to accept is larger than any honest limit on output.
    allowed = replace(asked, max_output_tokens=None) if mode == Mode.HUGE_FILE else asked
    text, finish, reasoning = _within_limit(allowed, text, finish)
    billed = replace(_prompt_tokens(asked, cache), output=tokens_in(text), reasoning=reasoning)
    told = billed
    if wish and mode in _CUTS and asked.stream:
        billed = replace(billed, output=tokens_for(_characters_until(text, wish.after_chunks)))
    if mode == Mode.WRONG_USAGE:
        told = replace(billed, input=billed.input + 100, output=2 * billed.output + 7)
    return Planned(Reply(id, created, asked, text, finish, told), billed, wish)


def _text(asked: Asked, mode: Mode) -> tuple[str, Finish]:
    match mode:
        case Mode.REFUSAL:
            return _REFUSAL, Finish.REFUSAL
        case Mode.TRUNCATED:
            text = answers.answer_to(asked.first_message)
            return text[: len(text) // 2], Finish.LENGTH
        case Mode.MALFORMED:
            return answers.malformed(), Finish.STOP
        case Mode.BAD_EDIT:
            return answers.bad_edit(read_prompt(asked.first_message)), Finish.STOP
        case Mode.BAD_PATH:
            return answers.bad_path(), Finish.STOP
        case Mode.HUGE_FILE:
            return answers.huge_file(), Finish.STOP
        case _:
            return answers.answer_to(asked.first_message), Finish.STOP


def _within_limit(asked: Asked, text: str, finish: Finish) -> tuple[str, Finish, int]:
    """Text and thought together never exceed what the caller allowed."""
    reasoning = max(REASONING_TOKENS_MIN, tokens_in(text) // REASONING_SHARE) if reasons(asked) else 0
    limit = asked.max_output_tokens
    if limit is None or reasoning + tokens_in(text) <= limit:
        return text, finish, reasoning
    reasoning = min(reasoning, limit)
    return text[: (limit - reasoning) * CHARACTERS_PER_TOKEN], Finish.LENGTH, reasoning


def _prompt_tokens(asked: Asked, cache: PromptCache) -> Buckets:
    if asked.provider == "anthropic":
        text = cache.explicit(asked.model, asked.text, asked.cache_points)
    else:
        text = cache.implicit(asked.model, asked.text)
    seen = asked.images * IMAGE_TOKENS.get(asked.provider, IMAGE_TOKENS_OTHERS)
    return replace(text, input=text.input + seen)


def _characters_until(text: str, pieces: int) -> int:
    sent = pieces_of(text)[:pieces]
    return sent[-1].seen if sent else 0
