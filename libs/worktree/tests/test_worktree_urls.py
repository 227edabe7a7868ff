import pytest
from worktree import RefusedUrl, check_url


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop.git",
        "https://git.example.org:8443/acme/shop",
        "http://127.0.0.1:3000/acme/shop.git",
        "http://localhost/acme/shop.git",
        "ssh://git@github.com/acme/shop.git",
        "ssh://github.com:2222/acme/shop.git",
        "git@github.com:acme/shop.git",
    ],
)
def test_urls_of_the_web_and_of_ssh_pass(url):
    check_url(url, ())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "empty"),
        ("ext::sh -c touch% /tmp/pwned", "remote helper"),
        ("fd::17/foo", "remote helper"),
        ("::x", "remote helper"),
        ("-uhttps://example.org/x", "option"),
        ("--upload-pack=touch /tmp/pwned", "option"),
        ("https://user:pw@example.org/x.git", "credentials"),
        ("https://ghp_token@example.org/x.git", "credentials"),
        ("https://example.org/x.git?token=abc", "query"),
        ("http://example.org/x.git", "plain http"),
        ("https://-oProxyCommand=x/y", "host"),
        ("https:///nohost", "host"),
        ("https://example.org:port/x", "well-formed"),
        ("https://[::1/x", "well-formed"),
        ("ssh://git:pw@example.org/x", "password"),
        ("ssh://-oProxyCommand=touch@example.org/x", "user"),
        ("ssh://-oProxyCommand=touch/x", "host"),
        ("git@-oProxyCommand=x:y", "neither"),
        ("git@example.org:-x", "neither"),
        ("git://example.org/x.git", "'git'"),
        ("ftp://example.org/x", "'ftp'"),
        ("file://example.org/etc", "host"),
        ("file:///etc", "outside"),
        ("/etc", "outside"),
        ("relative/path", "neither"),
        ("../up", "neither"),
        ("https://example.org/x\n--upload-pack=x", "control"),
        ("a\0b", "control"),
        ("https://example.org/" + "x" * 3000, "characters"),
    ],
)
def test_everything_else_is_refused_with_the_reason(url, why, tmp_path):
    with pytest.raises(RefusedUrl, match=why):
        check_url(url, (tmp_path,))


def test_the_refusal_never_repeats_a_password(tmp_path):
    with pytest.raises(RefusedUrl) as refusal:
        check_url("https://ann:hunter2@example.org/x.git", (tmp_path,))

    assert "hunter2" not in str(refusal.value)


def test_a_local_path_passes_only_inside_the_allowed_roots(tmp_path):
    (tmp_path / "inside").mkdir()

    check_url(str(tmp_path / "inside"), (tmp_path,))
    check_url(f"file://{tmp_path}/inside", (tmp_path,))
    for outside in (f"{tmp_path}/inside/../../x", f"file://{tmp_path}/%2e%2e/x"):
        with pytest.raises(RefusedUrl, match="outside"):
            check_url(outside, (tmp_path / "inside",))
    with pytest.raises(RefusedUrl, match="outside"):
        check_url(str(tmp_path), ())


def test_a_link_inside_the_roots_does_not_lead_out_of_them(tmp_path):
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/link").symlink_to("/etc")

    with pytest.raises(RefusedUrl, match="outside"):
        check_url(str(tmp_path / "roots/link"), (tmp_path / "roots",))
