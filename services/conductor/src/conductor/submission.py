"""What may become a task. Pure: a request is judged field by field, and every fault is named at once."""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from factory.artifact.v1 import ArtifactRef, Attachment
from factory.task.v1 import Limits, Scope, SubmitRequest, TaskSubmitted, TaskType

from conductor import attachments
from conductor.secrets import Secret, secrets_in

TITLE_CHARACTERS_MAX = 200
BODY_BYTES_MAX = 256 * 1024
KEY_CHARACTERS_MAX = 200
LABELS_MAX = 32
LABEL_CHARACTERS_MAX = 100
PROJECT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TASK_ID = re.compile(r"[a-z0-9]{26}")
BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
ADHOC = "adhoc"
TIMEOUT_MIN, TIMEOUT_MAX = timedelta(minutes=1), timedelta(days=366)
# They make a title read otherwise than it is written.
DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Violation = tuple[str, str]
CheckUrl = Callable[[str], str]


def violations_of(request: SubmitRequest, check_url: CheckUrl) -> list[Violation]:
    """Everything that is wrong with a submission: (field, what was expected and found).

    `check_url` answers why a repository is not allowed, or "".
    """
    found = [
        *_title(request.title),
        *_body(request.body),
        *_target(request, check_url),
        *_labels(request),
    ]
    if request.type not in TaskType.values():
        found.append(("type", f"a known type, found {request.type}"))
    if request.scope not in Scope.values():
        found.append(("scope", f"a known scope, found {request.scope}"))
    if not request.idempotency_key.isprintable():
        found.append(("idempotency_key", "printable characters"))
    if len(request.idempotency_key) > KEY_CHARACTERS_MAX:
        found.append(
            ("idempotency_key", f"at most {KEY_CHARACTERS_MAX} characters, found {len(request.idempotency_key)}")
        )
    elif any(secrets_in(request.idempotency_key)):
        found.append(("idempotency_key", "no credentials; the log cannot forget it"))
    if request.base_branch and (not BRANCH.fullmatch(request.base_branch) or ".." in request.base_branch):
        found.append(("base_branch", f"a branch name, found {request.base_branch[:60]!r}"))
    found += attachments.violations_of(request.attachments)
    found += violations_of_limits(request.limits)
    return found


def violations_of_limits(limits: Limits) -> Iterable[Violation]:
    """Everything that is wrong with the limits of a task."""
    if limits.HasField("timeout"):
        # As seconds: a Duration may hold more than any timedelta.
        seconds = limits.timeout.seconds + limits.timeout.nanos / 1e9
        if not TIMEOUT_MIN.total_seconds() <= seconds <= TIMEOUT_MAX.total_seconds():
            yield "limits.timeout", f"1 minute to 366 days, found {seconds:g} s"
    if limits.HasField("max_cost_pico_usd") and limits.max_cost_pico_usd <= 0:
        yield "limits.max_cost_pico_usd", f"more than 0, found {limits.max_cost_pico_usd}"


def task_id_for(org: str, project: str, key: str) -> str:
    """The id of the task with this key: the same for ever, in any process. 130 bits of SHA-256, as base32."""
    digest = hashlib.sha256("\0".join((org, project, key)).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:26]


def submitted_fact(
    request: SubmitRequest,
    *,
    by: str,
    repository: str,
    base_branch: str,
    body: ArtifactRef | None,
    attached: Sequence[Attachment] = (),
) -> TaskSubmitted:
    """The fact that a valid request becomes."""
    fact = TaskSubmitted(
        project=request.project or ADHOC,
        title=request.title.strip(),
        body=body,
        repository=repository,
        base_branch=request.base_branch or base_branch,
        labels=dict(request.labels),
        asked_type=request.type,
        asked_scope=request.scope,
        submitted_by=by,
        idempotency_key=request.idempotency_key,
        attached=attached,
    )
    if request.HasField("limits"):
        fact.limits.CopyFrom(request.limits)
    return fact


def differences(one: TaskSubmitted, other: TaskSubmitted) -> list[str]:
    """The fields in which two submissions with the same key differ; who submitted it is not one."""
    same_whoever = TaskSubmitted()
    same_whoever.CopyFrom(other)
    same_whoever.submitted_by = one.submitted_by
    return [
        field.name
        for field in TaskSubmitted.DESCRIPTOR.fields
        if getattr(one, field.name) != getattr(same_whoever, field.name)
    ]


def _title(title: str) -> Iterable[Violation]:
    stripped = title.strip()
    if not stripped:
        yield "title", f"1 to {TITLE_CHARACTERS_MAX} characters, found none"
    elif len(stripped) > TITLE_CHARACTERS_MAX:
        yield "title", f"1 to {TITLE_CHARACTERS_MAX} characters, found {len(stripped)}; the rest belongs in the body"
    elif any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in DIRECTION_MARKS for c in stripped):
        yield "title", "one line without control characters"
    elif all(unicodedata.category(c)[0] in "CZ" for c in stripped):
        yield "title", "something that can be seen, found only invisible characters"
    if secret := next(iter(secrets_in(stripped[: TITLE_CHARACTERS_MAX * 2])), None):
        yield "title", f"no credentials, found what looks like a {secret.kind}; the log cannot forget it"


def _body(body: str) -> Iterable[Violation]:
    size = len(body.encode())
    if size > BODY_BYTES_MAX:
        yield "body", f"at most {BODY_BYTES_MAX:,} bytes, found {size:,}"
    else:
        found: Secret | None = next(iter(secrets_in(body)), None)
        if found:
            yield "body", f"no credentials, found what looks like a {found.kind} in line {found.line}"


def _target(request: SubmitRequest, check_url: CheckUrl) -> Iterable[Violation]:
    match bool(request.project), bool(request.repository):
        case True, True:
            yield "repository", "either a project or a repository, found both"
        case False, False:
            yield "project", "a project, or a repository, found neither"
        case True, False if not PROJECT.fullmatch(request.project) or request.project == ADHOC:
            yield "project", f"lower-case letters, digits and hyphens, 1 to 63, found {request.project[:63]!r}"
        case False, True:
            if why_not := check_url(request.repository):
                yield "repository", why_not


def _labels(request: SubmitRequest) -> Iterable[Violation]:
    if len(request.labels) > LABELS_MAX:
        yield "labels", f"at most {LABELS_MAX}, found {len(request.labels)}"
        return
    for key, value in request.labels.items():
        if not key or len(key) > LABEL_CHARACTERS_MAX or len(value) > LABEL_CHARACTERS_MAX:
            yield f"labels.{key[:40]}", f"keys and values of 1 to {LABEL_CHARACTERS_MAX} characters"
        elif not (key + value).isprintable():
            yield f"labels.{key[:40]}" if key.isprintable() else "labels", "printable characters"
        elif any(secrets_in(f"{key}={value}")):
            yield f"labels.{key[:40]}", "no credentials"
