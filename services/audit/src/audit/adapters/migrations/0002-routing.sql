-- Which models there were, what holds a task, and which tasks have a plan. Rows that were made before lack all of this,
-- so they are made anew from the log: the checkpoint goes back to its beginning.

-- `ModelsConfigured`, by the version of its lane: the last one is in force.
create table models (
    version integer primary key,
    fact blob not null
) strict;

alter table task add column hold_cause integer not null default 0;
alter table task add column planned integer not null default 0;

create index task_planned on task (project, submitted_at, task_id) where planned = 1 and submitted_at is not null;

-- What a model has ever done, whatever the day: sums that have tokens.
create index usage_done on usage (type, phase, model) where substr(tally, 1, 2) <> '0 ';

delete from skipped;
delete from price;
delete from project;
delete from task;
delete from story;
delete from call;
delete from usage;
update checkpoint set sequence = 0, event_id = '';
