"""Says once which models there are, so that a decision can be made again from the log alone."""

import structlog
from eventlog import Conflict, EventLog
from factory.model.v1 import ModelsConfigured

from conductor.book import Rules
from conductor.catalog import LANE_ID, configured

log = structlog.get_logger()

ATTEMPTS_MAX = 5


async def publish_catalog(events: EventLog, rules: Rules) -> None:
    """Puts the models of this conductor on record, unless some conductor has done so already."""
    fact = configured(rules.models, rules.ruled_out)
    for _ in range(ATTEMPTS_MAX):
        past = await events.read(LANE_ID, at_least=await events.last_own(LANE_ID))
        if any(isinstance(known, ModelsConfigured) and known.digest == fact.digest for known in past.facts()):
            return
        try:
            await events.append(LANE_ID, [fact], after=past.tip(events.service), read_to=past.read_to)
        except Conflict:
            continue
        log.info("models.configured", digest=fact.digest, models=[one.model for one in fact.models])
        return
    raise Conflict(f"{LANE_ID!r} changed {ATTEMPTS_MAX} times while the models were put on record")
