"""The event log: append, read, follow and work queues over NATS JetStream.

The only package besides `runtime` that talks to NATS. It stores and returns facts; it never decides what they mean.
"""

from eventlog.connection import Client as Client
from eventlog.connection import connect as connect
from eventlog.facts import fact_name as fact_name
from eventlog.facts import facts_of as facts_of
from eventlog.facts import to_fact as to_fact
from eventlog.log import TROUBLES_THAT_PASS as TROUBLES_THAT_PASS
from eventlog.log import Conflict as Conflict
from eventlog.log import EventLog as EventLog
from eventlog.log import EventTooLarge as EventTooLarge
from eventlog.log import LogUnavailable as LogUnavailable
from eventlog.log import Stale as Stale
from eventlog.past import Past as Past
from eventlog.past import Recorded as Recorded
from eventlog.past import Tip as Tip
