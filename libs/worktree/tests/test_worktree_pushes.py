from datetime import UTC, datetime

import pytest
import worktree
from worktree import BranchTaken, GitFailed, PushRejected, TreeDiffers, checkout, push_branch, record_change

WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def world(make_repository, tmp_path):
    """A bare remote, and the arguments that push one change to it."""
    repository = make_repository({"app.py": "one\n"})
    repository.commit({"app.py": "two\n"})
    bare = repository.bare()
    taken = worktree.snapshot(str(bare.path), "", allowed_roots=(tmp_path,), mirror=tmp_path / "mirror")
    checkout(taken.bundle, taken.base_commit, tmp_path / "checkout")
    (tmp_path / "checkout/app.py").write_text("three\n")
    change = record_change(tmp_path / "checkout", taken.base_commit, "")
    arguments = {
        "bundle": taken.bundle,
        "change": change,
        "repository": str(bare.path),
        "branch": "factory/t-1",
        "base_branch": "main",
        "message": "Add a thing\n\nTask: t-1",
        "author": "AI Factory <factory@example.org>",
        "when": WHEN,
        "allowed_roots": (tmp_path,),
        "workdir": tmp_path / "work",
    }
    return bare, arguments


def test_a_change_becomes_one_commit_on_its_base_on_a_branch_of_its_own(world):
    bare, arguments = world

    pushed = push_branch(**arguments)

    assert pushed == worktree.Pushed(commit=pushed.commit, base_moved=False, created=True)
    assert bare.git("rev-parse", "factory/t-1") == pushed.commit
    assert bare.git("rev-parse", "factory/t-1^") == bare.git("rev-parse", "main")
    assert bare.git("show", "factory/t-1:app.py") == "three"
    assert bare.git("log", "-1", "--format=%an <%ae>|%cn|%aI|%B", "factory/t-1") == (
        "AI Factory <factory@example.org>|AI Factory|2025-01-02T03:04:05+00:00|Add a thing\n\nTask: t-1"
    )
    assert list(arguments["workdir"].iterdir()) == []


def test_pushing_again_finds_the_same_commit(world):
    _, arguments = world

    first, second = push_branch(**arguments), push_branch(**arguments)

    assert first.commit == second.commit
    assert (first.created, second.created) == (True, False)


def test_a_branch_with_other_content_is_taken_and_stays_as_it_is(world):
    bare, arguments = world
    bare.git("branch", "factory/t-1", "main~1")

    with pytest.raises(BranchTaken, match="factory/t-1"):
        push_branch(**arguments)
    assert bare.git("rev-parse", "factory/t-1") == bare.git("rev-parse", "main~1")


def test_a_base_branch_that_moved_on_is_told_and_nothing_is_rebased(world, make_repository):
    bare, arguments = world
    base = bare.git("rev-parse", "main")
    somebody = make_repository(name="somebody")
    somebody.git("pull", "-q", str(bare.path), "main")
    somebody.commit({"other.py": "mine\n"})
    somebody.git("push", "-q", str(bare.path), "main")

    pushed = push_branch(**arguments)

    assert pushed.base_moved
    assert bare.git("rev-parse", "factory/t-1^") == base
    assert bare.git("rev-parse", "main") != base


def test_a_base_commit_that_was_rewritten_away_is_told_in_words(world):
    bare, arguments = world
    bare.git("branch", "-f", "main", "main~1")

    with pytest.raises(PushRejected, match="no longer in the repository's history"):
        push_branch(**arguments)


def test_a_change_that_is_not_the_approved_tree_is_never_pushed(world):
    bare, arguments = world
    arguments["change"].tree = "0" * 40

    with pytest.raises(TreeDiffers):
        push_branch(**arguments)
    assert bare.git("branch", "--list", "factory/*") == ""


def test_a_remote_that_says_no_is_quoted(world):
    bare, arguments = world
    bare.git("config", "receive.denyCurrentBranch", "refuse")
    bare.git("config", "receive.fsckObjects", "true")
    bare.git("config", "receive.maxInputSize", "10")

    with pytest.raises(PushRejected):
        push_branch(**arguments)


def test_hooks_of_a_local_remote_are_not_run(world, tmp_path):
    bare, arguments = world
    hook = bare.path / "hooks/post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    hook.chmod(0o755)

    push_branch(**arguments)

    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("branch", ["--force", "a..b", "x.lock", "", "with space", "+x:refs/heads/main"])
def test_a_malformed_branch_name_is_refused(world, branch):
    _, arguments = world

    with pytest.raises(GitFailed):
        push_branch(**(arguments | {"branch": branch}))


def test_a_commit_needs_a_time_zone_and_a_proper_author(world):
    _, arguments = world

    with pytest.raises(ValueError, match="time zone"):
        push_branch(**(arguments | {"when": datetime(2025, 1, 1)}))  # noqa: DTZ001  # the point of the test
    with pytest.raises(ValueError, match="author"):
        push_branch(**(arguments | {"author": "nobody"}))


@pytest.mark.parametrize(
    "setting", ["core.alternateRefsCommand", "gc.recentObjectsHook", "uploadpack.packObjectsHook", "core.sshCommand"]
)
def test_commands_that_a_local_remote_has_in_its_settings_are_not_run(world, tmp_path, setting):
    bare, arguments = world
    other = tmp_path / "other.git"
    bare.git("clone", "-q", "--bare", str(bare.path), str(other))
    (bare.path / "objects/info/alternates").write_text(f"{other}/objects\n")
    bare.git("config", setting, f"touch {tmp_path}/pwned;")
    for name in ("gc.auto", "gc.autoPackLimit"):
        bare.git("config", name, "1")
    bare.git("config", "gc.autoDetach", "false")
    bare.git("repack", "-adq")

    worktree.snapshot(str(bare.path), "", allowed_roots=(tmp_path,), mirror=tmp_path / "another mirror")
    push_branch(**arguments)

    assert not (tmp_path / "pwned").exists()
