"""What a call leaves behind: its facts, and the request and response as artifacts that can be read again.

Pure. Credentials are never part of it. The stored response is all that is needed to judge the answer a second time
without asking for it a second time.
"""

import json
from dataclasses import fields
from typing import Any

from factory.artifact.v1 import ArtifactRef
from factory.call.v1 import ModelCalled, ModelCallStarted, Usage
from factory.phase.v1 import PhaseRequested
from policy.models import Model

from executor.answer import Answer, Message, Question
from executor.outcome import Ending
from executor.usage import normalised

FORMAT = 1
_OF_QUESTION = tuple(one.name for one in fields(Question))
_OF_ANSWER = tuple(one.name for one in fields(Answer) if one.name != "fault")
WORD_CHARACTERS_MAX = 200
RAW_USAGE_CHARACTERS_MAX = 16_000
"""A larger usage object is left out of the fact: it stands in the stored response."""


class NotReadable(Exception):
    """A stored response is not in a form that this release knows."""


def started(
    question: Question, request: PhaseRequested, model: Model, stored: ArtifactRef, input_tokens_estimate: int
) -> ModelCallStarted:
    """The right to make the call, once appended."""
    return ModelCallStarted(
        call_id=question.call_id,
        request_id=request.request_id,
        phase=request.phase,
        model=model.name,
        provider=model.provider,
        provider_model=question.provider_model,
        request=stored,
        max_output_tokens=question.max_output_tokens,
        input_tokens_estimate=input_tokens_estimate,
    )


def called(
    start: ModelCallStarted, answer: Answer, ending: Ending, wire: str, stored: ArtifactRef | None, latency_s: float
) -> ModelCalled:
    """How the call ended, as far as the provider has told."""
    raw_usage = json.dumps(answer.raw_usage) if answer.raw_usage else ""
    fact = ModelCalled(
        call_id=start.call_id,
        request_id=start.request_id,
        phase=start.phase,
        model=start.model,
        provider=start.provider,
        provider_model=_word(answer.provider_model) or start.provider_model,
        outcome=ending.outcome,
        usage=_usage(wire, answer),
        raw_usage=raw_usage if len(raw_usage) <= RAW_USAGE_CHARACTERS_MAX else "",
        service_tier=_word(answer.service_tier),
        response=stored,
        provider_request_id=_word(answer.provider_request_id),
        http_status=answer.http_status,
        finish_reason=_word(answer.finish_reason),
    )
    fact.latency.FromMicroseconds(round(latency_s * 1e6))
    if answer.time_to_first_token_s is not None:
        fact.time_to_first_token.FromMicroseconds(round(answer.time_to_first_token_s * 1e6))
    return fact


def _usage(wire: str, answer: Answer) -> Usage | None:
    """The usage as far as it was told; output that a stream begins with as 0 was not counted before it broke."""
    usage = normalised(wire, answer.raw_usage)
    if usage is not None and answer.fault is not None and answer.text and not usage.output_tokens:
        usage.ClearField("output_tokens")
    return usage


def request_json(question: Question) -> bytes:
    """The request as it is sent, without credentials; a picture is an artifact already, and only named here."""
    kept = {name: getattr(question, name) for name in _OF_QUESTION}
    return _json({"format": FORMAT, **kept, "messages": [_message(message) for message in question.messages]})


def _message(message: Message) -> dict[str, Any]:
    kept: dict[str, Any] = {"role": message.role, "text": message.text}
    if message.images:
        kept["images"] = [
            {"name": image.name, "media_type": image.media_type, "digest": image.digest} for image in message.images
        ]
    return kept


def response_json(answer: Answer) -> bytes:
    """The answer as it was received."""
    return _json({"format": FORMAT} | {name: getattr(answer, name) for name in _OF_ANSWER})


def answer_from(stored: bytes) -> Answer:
    """A stored answer, as if it had just been received; NotReadable for anything else."""
    try:
        kept = json.loads(stored)
        if kept.pop("format") != FORMAT:
            raise NotReadable("the response was stored in another format")
        return Answer(**kept)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotReadable(f"the stored response is none: {error!r}") from error


def _word(text: str) -> str:
    """A provider's word for something: short, and fit for a fact whatever it was."""
    return text[:WORD_CHARACTERS_MAX].encode(errors="replace").decode()


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")
