"""The service on real artifacts and a real nats-server."""

import asyncio

import pytest
from artifacts import DirectoryArtifacts
from classifier.app import judge, poison, service
from eventlog import EventLog, Past
from eventlog.past import Recorded, Tip
from eventlog.work import Work, publish_work
from factory.artifact.v1 import ArtifactRef
from factory.classification.v1 import TaskClassified
from factory.event.v1 import Event, Fact
from factory.task.v1 import ClassificationRequested, Scope, TaskSubmitted, TaskType
from runtime import serve

TASK = "01jd0000000000000000000000"
REQUEST = ClassificationRequested(request_id="classification-1-1")
WORK = Work(Event(id=TASK), 1, REQUEST)


def past(task: TaskSubmitted) -> Past:
    event = Event(id=TASK, producer="conductor", version=1, facts=[Fact(task_submitted=task)])
    return Past((Recorded(event, 1, event.SerializeToString()),), 1)


async def answer(task: TaskSubmitted, store: DirectoryArtifacts) -> TaskClassified:
    [fact] = await judge(WORK, past(task), store)
    assert isinstance(fact, TaskClassified)
    return fact


async def test_a_task_is_classified_by_its_title_and_the_fact_says_what_decided(tmp_path):
    fact = await answer(TaskSubmitted(title="Add a GET /health endpoint"), DirectoryArtifacts(tmp_path))

    assert (fact.type, fact.scope, fact.method) == (TaskType.TASK_TYPE_API, Scope.SCOPE_FOCUSED, "rules")
    assert fact.request_id == "classification-1-1"
    assert fact.version == "rules-1"
    assert sum(score.score for score in fact.scores) == pytest.approx(1)
    assert "endpoint → api" in fact.reasons


async def test_the_body_counts_and_one_that_was_erased_is_done_without(tmp_path):
    store = DirectoryArtifacts(tmp_path)
    body = await store.put(b"The README must explain it. Update the documentation and the tutorial.")

    there = await answer(TaskSubmitted(title="More of it", body=body), store)
    gone = await answer(TaskSubmitted(title="More of it", body=ArtifactRef(digest="0" * 64, size=9)), store)

    assert there.type == TaskType.TASK_TYPE_DOCUMENTATION
    assert gone.type == TaskType.TASK_TYPE_LOGIC


async def test_the_type_that_was_asked_for_is_the_type(tmp_path):
    task = TaskSubmitted(title="Add a GET /health endpoint", asked_type=TaskType.TASK_TYPE_TESTS)

    fact = await answer(task, DirectoryArtifacts(tmp_path))

    assert (fact.type, fact.method, fact.confidence) == (TaskType.TASK_TYPE_TESTS, "submitter", 1.0)


def test_poisoned_work_still_gives_the_task_a_type():
    [fact] = poison(Work(Event(id=TASK), 1, REQUEST, deliveries=6), Past())

    assert isinstance(fact, TaskClassified)
    assert (fact.type, fact.method) == (TaskType.TASK_TYPE_LOGIC, "fallback")
    assert "failed 5 times" in fact.reasons[-1]


async def test_a_request_in_the_log_is_answered_in_the_log(tmp_path, nats_server, nc):
    env = {"FACTORY_NATS_URL": nats_server.url, "FACTORY_ARTIFACTS": str(tmp_path), "FACTORY_HEARTBEAT_S": "1"}
    conductor = EventLog(nc, org="main", service="conductor")
    async with serve([(service(env), env)]):
        recorded = await conductor.append(TASK, [TaskSubmitted(title="Write unit tests"), REQUEST], after=Tip())
        await publish_work(nc, recorded, REQUEST)
        await publish_work(nc, recorded, REQUEST)
        lane = await _lane(conductor)

    assert [fact.type for recorded in lane for fact in recorded.facts if isinstance(fact, TaskClassified)] == [
        TaskType.TASK_TYPE_TESTS
    ]


async def _lane(log: EventLog):
    for _ in range(100):
        if lane := (await log.read(TASK)).lane("classifier"):
            return lane
        await asyncio.sleep(0.1)
    raise AssertionError("the classifier has not answered within 10 s")
