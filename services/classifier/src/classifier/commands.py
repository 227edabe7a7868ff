"""`factory classify`: what the classifier would say, without a factory running.

Imports the rules only when it is run, so that `factory --help` does not wait for them.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from classifier.classification import Classification


def classify(
    text: Annotated[str, typer.Argument(help="The task: its title, then perhaps a description.")] = "",
    jsonl: Annotated[bool, typer.Option("--jsonl", help='One {"text": …} a line on stdin, one answer a line.')] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say which words decided.")] = False,
) -> None:
    """Say which type and scope a task has, offline.

    Examples:

      factory classify "Create user authentication with JWT tokens" --explain

      factory classify --jsonl < tasks.jsonl
    """
    if jsonl:
        raise typer.Exit(_each_line(explain))
    if not text.strip():
        raise typer.BadParameter("expected the text of a task, or --jsonl", param_hint="TEXT")
    judged = _judged(text)
    typer.echo(json.dumps(_answer(judged, explain), ensure_ascii=False) if as_json else _for_people(judged, explain))


def _each_line(explain: bool) -> int:
    """Answers in order, each as soon as its line has come; 1 when a line could not be read."""
    unread = 0
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            answer = _answer(_judged(_text_in(line)), explain)
        except ValueError as problem:
            unread += 1
            answer = {"error": str(problem)}
        typer.echo(json.dumps(answer, ensure_ascii=False))
        sys.stdout.flush()
    return 1 if unread else 0


def _text_in(line: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError('expected a JSON object with "text" on each line, found something else') from None
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise ValueError('expected a JSON object whose "text" is a string')
    return found["text"]


def _judged(text: str) -> "Classification":
    from classifier.classification import classify as judge

    title, _, body = text.strip().partition("\n")
    return judge(title, body)


def _answer(judged: "Classification", explain: bool) -> dict[str, Any]:
    from classifier.classification import name_of

    answer: dict[str, Any] = {
        "type": name_of(judged.type),
        "scope": _scope(judged),
        "confidence": round(judged.confidence, 4),
        "scores": {name_of(type): round(score, 4) for type, score in judged.scores},
        "abstained": judged.abstained,
    }
    if explain:
        answer |= {"reasons": list(judged.reasons), "method": judged.method, "version": judged.version}
    return answer


def _for_people(judged: "Classification", explain: bool) -> str:
    from classifier.classification import name_of

    unsure = ", a guess" if judged.abstained else ""
    lines = [f"{name_of(judged.type)}, {_scope(judged)} ({judged.confidence:.0%} sure{unsure})"]
    if explain:
        lines += [f"  {reason}" for reason in judged.reasons] or ["  no word of it says anything"]
        lines += [f"  {score:5.0%} {name_of(type)}" for type, score in sorted(judged.scores, key=lambda one: -one[1])]
        lines += [f"  by {judged.version}"]
    return "\n".join(lines)


def _scope(judged: "Classification") -> str:
    from factory.task.v1 import Scope

    return Scope.Name(judged.scope).removeprefix("SCOPE_").lower()
