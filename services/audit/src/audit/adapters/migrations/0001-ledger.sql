-- Everything here is made from the log and can be made again. Money and tokens are decimal text: SQLite's integers end
-- at 2^63, and its sums of pico-dollars would overflow at 9.2 million dollars. Moments are microseconds since 1970 (UTC).

create table checkpoint (
    stream text primary key,
    sequence integer not null,
    -- Of the event at that sequence: another one there means another log.
    event_id text not null
) strict, without rowid;

insert into checkpoint values ('EVENTS', 0, '');

-- Facts of kinds that this release does not know, by the number of their arm.
create table skipped (
    arm integer primary key,
    facts integer not null
) strict;

create table price (
    provider text not null,
    provider_model text not null,
    valid_from integer not null,
    known_at integer not null,
    fact blob not null,
    primary key (provider, provider_model, valid_from, known_at, fact)
) strict, without rowid;

create table project (
    project text primary key,
    repository text not null,
    base_branch text not null,
    created integer not null,
    tasks integer not null
) strict, without rowid;

create table task (
    task_id text primary key,
    title text not null,
    project text not null,
    type integer not null,
    scope integer not null,
    state integer not null,
    before_hold integer not null,
    parked integer not null,
    -- `state`, or parked: what lists show and filter by.
    shown integer not null,
    conductor_version integer not null,
    classifier_version integer not null,
    submitted_at integer,
    changed_at integer,
    pull_request_url text not null,
    change_digest text not null,
    waiting_since integer,
    notes text not null,
    tally text not null
) strict, without rowid;

create index task_newest on task (submitted_at, task_id) where submitted_at is not null;
create index task_of_project on task (project, submitted_at, task_id) where submitted_at is not null;
create index task_in_state on task (shown, submitted_at, task_id) where submitted_at is not null;
create index task_waiting on task (waiting_since, task_id) where shown = 5;

-- What a task's events say besides its calls, as stored events.
create table story (
    task_id text not null,
    producer text not null,
    version integer not null,
    event blob not null,
    primary key (task_id, producer, version)
) strict, without rowid;

-- The ledger: one row per call.
create table call (
    call_id text primary key,
    task_id text not null,
    project text not null,
    type integer not null,
    provider text not null,
    provider_model text not null,
    began_at integer not null,
    started blob,
    started_at integer,
    started_version integer,
    started_position integer,
    started_producer text,
    ended blob,
    ended_at integer,
    ended_version integer,
    ended_position integer,
    ended_producer text,
    tokens text,
    cost_pico_usd text,
    up_to_tokens text,
    up_to_cost_pico_usd text,
    price_version text not null
) strict, without rowid;

create index call_in_order on call (began_at, call_id);
create index call_of_task on call (task_id, began_at, call_id);
create index call_of_project on call (project, began_at, call_id);
create index call_of_model on call (provider, provider_model, began_at);

-- Sums of the ledger. `tally` is the seven numbers of a tally, separated by spaces.
create table usage (
    day text not null,
    project text not null,
    type integer not null,
    phase integer not null,
    model text not null,
    tally text not null,
    primary key (day, project, type, phase, model)
) strict, without rowid;
