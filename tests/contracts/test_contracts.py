"""The contracts hold: every fact says who may say it, every rpc who may call it, and every stored byte can be read."""

import sys
from pathlib import Path
from typing import Any

import pytest
from eventlog import facts_of
from eventlog.facts import KINDS
from factory.event.v1 import Event
from factory.options.v1 import callers, heard_by, said_by
from google.protobuf import descriptor_pool, unknown_fields
from runtime.rpc import ROLES

sys.path.insert(0, str(Path(__file__).parent))
from corpus import CORPUS, example, missing

SAID_BY: Any = said_by
HEARD_BY: Any = heard_by
CALLERS: Any = callers

SERVICES = {"conductor", "classifier", "context", "executor", "quality_gate", "delivery"}
RPCS = [
    "factory.task.v1.TaskService",
    "factory.review.v1.ReviewService",
    "factory.project.v1.ProjectService",
    "factory.model.v1.ModelService",
    "factory.audit.v1.AuditService",
]


def test_every_fact_is_said_by_exactly_one_service_and_heard_by_known_ones():
    for kind in KINDS.values():
        options = kind.GetOptions()
        assert len(options.Extensions[SAID_BY]) == 1, kind.full_name
        assert set(options.Extensions[SAID_BY]) <= SERVICES
        assert set(options.Extensions[HEARD_BY]) <= SERVICES


@pytest.mark.parametrize("name", RPCS)
def test_every_rpc_names_the_roles_that_may_call_it(name: str):
    import factory.audit.v1
    import factory.model.v1
    import factory.project.v1
    import factory.review.v1
    import factory.task.v1  # noqa: F401 - registers the services

    for method in descriptor_pool.Default().FindServiceByName(name).methods:
        roles = set(method.GetOptions().Extensions[CALLERS])
        assert roles and roles <= set(ROLES), method.full_name


def test_every_kind_of_fact_stands_in_the_corpus():
    assert missing() == [], "run `just corpus`, and commit what it adds"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.binpb")), ids=lambda path: path.stem)
def test_every_event_ever_shipped_is_read_whole(path: Path):
    event = Event.FromString(path.read_bytes())
    [fact] = facts_of(event)

    assert fact is not None and fact.DESCRIPTOR is KINDS[path.stem]
    assert len(unknown_fields.UnknownFieldSet(fact)) == 0
    assert event.facts[0].WhichOneof("fact") == path.stem


def test_the_bytes_of_the_first_release_are_what_they_were():
    submitted = (CORPUS / "task_submitted.binpb").read_bytes()

    assert Event.FromString(submitted).facts[0].task_submitted.title == "a title"
    assert example("task_submitted").facts[0].task_submitted.title == "a title"
