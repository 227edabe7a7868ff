"""Who may publish and subscribe to what, from the `said_by` option of the facts: the server enforces "may never".

Pure: it writes the `authorization` block of a nats-server configuration.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from factory.options.v1 import said_by

from eventlog import subjects
from eventlog.facts import KINDS

OPERATOR = "operator"
PLATFORM = "platform"


def speakers() -> set[str]:
    """Every service that says a fact."""
    option: Any = said_by
    return {name for kind in KINDS.values() for name in kind.GetOptions().Extensions[option]}


def _speaks(lane: str) -> bool:
    return lane.split("-")[0] in speakers()


def permissions(lane: str, org: str) -> dict[str, Any]:
    """What the user of one lane may do; everything else is refused by the server."""
    reads = [f"$JS.API.DIRECT.GET.{subjects.EVENTS}", f"$JS.API.STREAM.MSG.GET.{subjects.EVENTS}"]
    publish = [*reads]
    subscribe = [f"_INBOX_{lane}.>"]
    if _speaks(lane):
        publish.append(f"factory.evt.{lane}.*.*")
    match lane:
        case "conductor":
            publish += [
                "factory.work.>",
                "factory.timer.sched.>",
                "factory.dlq.>",
                f"factory.stop.{org}.*",
                *_consumes(subjects.EVENTS, lane),
                *_consumes(subjects.INTAKE, lane),
                *_consumes(subjects.TIMERS, lane),
                f"factory.reply.{org}.>",  # it answers submissions
            ]
            subscribe += [subjects.STORED, f"factory.live.{org}.*"]
        case "audit":
            subscribe.append(subjects.STORED)
        case _:
            publish += [*_consumes(subjects.WORK, lane), f"factory.live.{org}.*"]
            subscribe.append(f"factory.stop.{org}.*")
    return {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}}


def platform_permissions(org: str) -> dict[str, Any]:
    """A platform submits tasks and hears what the conductor says of them."""
    return {
        "publish": {"allow": [subjects.submit(org)]},
        "subscribe": {
            "allow": ["_INBOX.>", "_INBOX_platform.>", f"factory.reply.{org}.>", f"factory.evt.conductor.{org}.*"]
        },
    }


def authorization(passwords: Mapping[str, str], lanes: Sequence[str], org: str) -> str:
    """The `authorization` block: the operator, the platform, and a user for every lane."""
    users: list[dict[str, Any]] = [
        {"user": OPERATOR, "password": passwords[OPERATOR]},
        {"user": PLATFORM, "password": passwords[PLATFORM], "permissions": platform_permissions(org)},
        *({"user": lane, "password": passwords[lane], "permissions": permissions(lane, org)} for lane in lanes),
    ]
    return "authorization: " + json.dumps({"users": users}, indent=2)


def _consumes(stream: str, consumer: str) -> list[str]:
    """Exactly what pulling from one durable consumer takes."""
    return [
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    ]
