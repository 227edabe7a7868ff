"""What the facts of a task say about one request for a phase.

Pure: it names artifacts, and fetches none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from factory.artifact.v1 import ArtifactRef
from factory.classification.v1 import TaskClassified
from factory.context.v1 import ContextGathered
from factory.event.v1 import AnyFact
from factory.task.v1 import (
    SCOPE_UNSPECIFIED,
    TASK_TYPE_UNSPECIFIED,
    Scope,
    TaskSubmitted,
    TaskType,
)


@dataclass(frozen=True, slots=True)
class Brief:
    title: str = ""
    body: ArtifactRef | None = None
    type: TaskType = TASK_TYPE_UNSPECIFIED
    scope: Scope = SCOPE_UNSPECIFIED
    base_commit: str = ""


def brief_of(facts: Iterable[AnyFact]) -> Brief:
    """What the task is about, and the commit that it builds on."""
    brief = Brief()
    for fact in facts:
        match fact:
            case TaskSubmitted():
                brief = replace(brief, title=fact.title, body=fact.body if fact.HasField("body") else None)
            case TaskClassified():
                brief = replace(brief, type=fact.type, scope=fact.scope)
            case ContextGathered():
                brief = replace(brief, base_commit=fact.base_commit)
            case _:
                continue
    return brief
