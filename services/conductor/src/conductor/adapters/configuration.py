"""Puts the configuration of a conductor on record, once, so that its decisions can be made again from the log."""

import structlog
from eventlog import Conflict, EventLog
from factory.model.v1 import ModelsConfigured

from conductor.rules import LANE_ID, Rules, configured

log = structlog.get_logger()

ATTEMPTS_MAX = 5


async def publish_configuration(events: EventLog, rules: Rules) -> None:
    """Says by what this conductor decides, unless some conductor has said the same already."""
    fact = configured(rules)
    for _ in range(ATTEMPTS_MAX):
        past = await events.read(LANE_ID, at_least=await events.last_own(LANE_ID))
        if any(isinstance(known, ModelsConfigured) and known.digest == fact.digest for known in past.facts()):
            return
        try:
            await events.append(LANE_ID, [fact], after=past.tip(events.service), read_to=past.read_to)
        except Conflict:
            continue
        log.info("conductor.configured", digest=fact.digest, models=[one.model for one in fact.models])
        return
    raise Conflict(f"{LANE_ID!r} changed {ATTEMPTS_MAX} times while the configuration was put on record")
