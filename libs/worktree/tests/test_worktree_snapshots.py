import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import worktree
from worktree import (
    BranchNotFound,
    NeedsCredentials,
    NoCommits,
    RefusedUrl,
    RepositoryNotFound,
    TooLarge,
    Unreachable,
    checkout,
    list_tree,
    read_blobs,
    unpack,
)
from worktree.git import _detail


@pytest.fixture
def snapshot(tmp_path):
    def take(repository: object, branch: str = "", **more):
        return worktree.snapshot(str(repository), branch, allowed_roots=(tmp_path,), mirror=tmp_path / "mirror", **more)

    return take


def test_the_tip_of_the_default_branch_is_pinned_and_can_be_checked_out(make_repository, snapshot, tmp_path):
    repository = make_repository({"a.txt": "one\n"})
    tip = repository.commit({"b/c.txt": "two\n"})

    taken = snapshot(repository.path)
    checkout(taken.bundle, taken.base_commit, tmp_path / "out")

    assert (taken.base_commit, taken.base_branch) == (tip, "main")
    assert (tmp_path / "out/a.txt").read_text() == "one\n"
    assert (tmp_path / "out/b/c.txt").read_text() == "two\n"


def test_a_bare_repository_and_a_file_url_give_the_same_snapshot(make_repository, snapshot):
    repository = make_repository({"a.txt": "one\n"})
    bare = repository.bare()

    commits = {snapshot(place).base_commit for place in (repository.path, bare.path, f"file://{bare.path}")}

    assert commits == {repository.git("rev-parse", "HEAD")}


def test_the_same_commit_gives_the_same_bytes(make_repository, snapshot, tmp_path):
    repository = make_repository({f"{n}.txt": f"{n}\n" * 50 for n in range(30)})
    first = snapshot(repository.path)

    elsewhere = worktree.snapshot(
        str(repository.path), "", allowed_roots=(tmp_path,), mirror=tmp_path / "another mirror"
    )

    assert snapshot(repository.path).bundle == first.bundle == elsewhere.bundle


def test_a_branch_that_moves_is_followed_through_the_cache(make_repository, snapshot):
    repository = make_repository({"a.txt": "one\n"})
    seen = [snapshot(repository.path).base_commit]
    for n in range(3):
        repository.commit({"a.txt": f"{n}\n"})
        seen.append(snapshot(repository.path).base_commit)
    repository.git("reset", "-q", "--hard", "HEAD~2")
    seen.append(snapshot(repository.path).base_commit)

    assert len(set(seen)) == 4
    assert seen[-1] == seen[1]


def test_a_named_branch_is_used_and_an_unknown_one_is_named_in_the_error(make_repository, snapshot):
    repository = make_repository({"a.txt": "one\n"})
    repository.git("checkout", "-q", "-b", "release/1")
    tip = repository.commit({"a.txt": "rel\n"})
    repository.git("checkout", "-q", "main")

    assert snapshot(repository.path, "release/1").base_commit == tip
    for name in ("nope", "--upload-pack=x", "main:refs/heads/x", "*"):
        with pytest.raises(BranchNotFound, match="'main'"):
            snapshot(repository.path, name)


def test_a_bare_remote_whose_head_points_at_nothing_still_has_a_default_branch(make_repository, snapshot):
    bare = make_repository({"a.txt": "one\n"}).bare()
    bare.git("symbolic-ref", "HEAD", "refs/heads/never-born")

    assert snapshot(bare.path).base_branch == "main"


def test_a_repository_without_commits_is_said_to_have_none(make_repository, snapshot):
    with pytest.raises(NoCommits):
        snapshot(make_repository().path)


def test_a_missing_repository_is_not_found(snapshot, tmp_path):
    (tmp_path / "plain directory").mkdir()

    with pytest.raises(RepositoryNotFound):
        snapshot(tmp_path / "nowhere")
    with pytest.raises(RepositoryNotFound):
        snapshot(tmp_path / "plain directory")


@pytest.mark.parametrize("url", ["ext::sh -c touch% {}", "--upload-pack=touch {};", "-u{}", "file:///etc", "/etc"])
def test_a_hostile_url_is_refused_and_runs_nothing(snapshot, tmp_path, url):
    with pytest.raises(RefusedUrl):
        snapshot(url.format(tmp_path / "pwned"))

    assert not (tmp_path / "pwned").exists()


def test_hooks_of_the_source_and_filters_it_names_are_never_run(make_repository, snapshot, tmp_path):
    repository = make_repository({"a.txt": "one\n", ".gitattributes": "*.txt filter=evil\n"})
    evil = f"#!/bin/sh\ntouch {tmp_path}/pwned\ncat\n"
    for name in ("post-checkout", "pre-commit", "post-upload-pack", "reference-transaction", "post-index-change"):
        hook = repository.path / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(evil)
        hook.chmod(0o755)
    repository.git("config", "filter.evil.smudge", f"touch {tmp_path}/pwned; cat")
    repository.git("config", "uploadpack.packObjectsHook", f"touch {tmp_path}/pwned; cat")
    repository.git("config", "core.fsmonitor", f"touch {tmp_path}/pwned")
    (tmp_path / "pwned").unlink(missing_ok=True)

    taken = snapshot(repository.path)
    checkout(taken.bundle, taken.base_commit, tmp_path / "out")

    assert (tmp_path / "out/a.txt").read_text() == "one\n"
    assert not (tmp_path / "pwned").exists()


def test_our_own_git_configuration_and_environment_do_not_matter(make_repository, snapshot, tmp_path, monkeypatch):
    repository = make_repository({"a.txt": "one\n"})
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[core]\n\thooksPath = /evil\n[fetch]\n\tnonsense\n[broken\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=true'")

    assert snapshot(repository.path).base_branch == "main"


def test_links_executables_and_submodules_of_the_base_survive_a_checkout(make_repository, snapshot, tmp_path):
    repository = make_repository({"run.sh": "#!/bin/sh\n"})
    (repository.path / "run.sh").chmod(0o755)
    (repository.path / "link").symlink_to("/etc/passwd")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    repository.git("add", "run.sh", "link")
    repository.git("commit", "-q", "-m", "odd")

    taken = snapshot(repository.path)
    checkout(taken.bundle, taken.base_commit, tmp_path / "out")

    assert (tmp_path / "out/run.sh").stat().st_mode & 0o111
    assert (tmp_path / "out/link").readlink() == Path("/etc/passwd")
    assert (tmp_path / "out/vendored").is_dir()


def test_the_objects_of_a_snapshot_are_read_without_a_checkout(make_repository, snapshot, tmp_path):
    repository = make_repository({"a.txt": "one\n", "z/empty": b"", "bin": bytes(range(256)), "ü.txt": "two\n"})

    taken = snapshot(repository.path)
    unpack(taken.bundle, taken.base_commit, tmp_path / "objects")
    entries = list_tree(tmp_path / "objects", taken.base_commit)
    contents = list(read_blobs(tmp_path / "objects", [entry.blob for entry in entries]))

    assert [(e.path, e.size, c) for e, c in zip(entries, contents, strict=True)] == [
        ("a.txt", 4, b"one\n"),
        ("bin", 256, bytes(range(256))),
        ("z/empty", 0, b""),
        ("ü.txt", 4, b"two\n"),
    ]


def test_a_repository_beyond_the_limit_is_refused_with_the_numbers(make_repository, snapshot):
    import random

    repository = make_repository({"noise": random.Random(1).randbytes(300_000)})

    with pytest.raises(TooLarge, match="at most 100000"):
        snapshot(repository.path, bytes_max=100_000)
    assert len(snapshot(repository.path).bundle) > 300_000


def test_a_cache_left_broken_by_a_kill_is_made_anew(make_repository, snapshot, tmp_path):
    repository = make_repository({"a.txt": "one\n"})
    snapshot(repository.path)
    [cache] = (tmp_path / "mirror").glob("*.git")
    for pack in cache.glob("objects/**/*"):
        if pack.is_file():
            pack.chmod(0o644)
            pack.write_bytes(b"torn")
    (cache / "shallow.lock").write_text("")
    tip = repository.commit({"a.txt": "two\n"})

    assert snapshot(repository.path).base_commit == tip


def test_snapshots_of_one_repository_at_once_do_not_disturb_each_other(make_repository, snapshot):
    repository = make_repository({"a.txt": "one\n"})

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: snapshot(repository.path).base_commit, range(8)))

    assert set(taken) == {repository.git("rev-parse", "HEAD")}


@contextmanager
def answering(status: int, seen: list[dict[str, str]]) -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(status)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Location", "http://localhost:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # the base class's own name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/acme/shop.git"
    finally:
        server.shutdown()
        server.server_close()


def test_a_remote_that_asks_for_a_password_is_an_answer_at_once_and_not_a_prompt(snapshot):
    started = time.monotonic()

    with answering(401, []) as url, pytest.raises(NeedsCredentials):
        snapshot(url)
    assert time.monotonic() - started < 10


def test_a_working_tree_whose_git_directory_is_elsewhere_is_refused_before_anybody_pays(
    make_repository, snapshot, tmp_path
):
    repository = make_repository({"a.txt": "one\n"})
    repository.git("worktree", "add", "-q", str(tmp_path / "linked"))

    with pytest.raises(RefusedUrl, match="name the repository that it belongs to"):
        snapshot(tmp_path / "linked")


def test_what_git_says_is_told_in_one_line_without_its_advice(snapshot, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()

    with answering(401, []) as url, pytest.raises(NeedsCredentials, match=r"^the repository asks for credentials"):
        snapshot(url)
    with pytest.raises(RepositoryNotFound) as problem:
        snapshot(str(plain))
    assert str(problem.value) == (
        f"there is no repository where we were sent (git: '{plain}' does not appear to be a git repository)"
    )


def test_a_remote_cannot_steer_a_terminal_through_its_error():
    said = "remote: \x1b[2J\x9b31mfake\u202e\nfatal: \x07no"

    assert _detail(said) == "remote:  [2J 31mfake   no"


def test_a_token_travels_in_a_header_and_a_rejected_one_is_not_repeated_in_the_error(snapshot):
    seen: list[dict[str, str]] = []
    with answering(401, seen) as url, pytest.raises(NeedsCredentials) as problem:
        snapshot(url, token="s3cret")

    assert seen[0]["Authorization"] == "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"
    assert "s3cret" not in str(problem.value)


def test_a_token_is_never_carried_to_where_a_redirect_leads(snapshot):
    seen: list[dict[str, str]] = []
    with answering(302, seen) as url, pytest.raises(worktree.GitFailed):
        snapshot(url, token="s3cret")

    assert len(seen) == 1


def test_a_web_repository_that_is_not_there_is_not_found(snapshot):
    with answering(404, []) as url, pytest.raises(RepositoryNotFound):
        snapshot(url)


def test_a_host_that_does_not_answer_is_unreachable(snapshot):
    with pytest.raises(Unreachable):
        snapshot("http://127.0.0.1:9/x.git")
