import pytest
from context.redaction import redacted

# In parts, so that this file does not look like what it tests for.
GITHUB = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
ANTHROPIC = "sk-ant-" + "api03-AbCdEfGhIjKlMnOpQrStUv"
OPENAI = "sk-proj-" + "abcdefghij1234567890"
JWT = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
    + "eyJzdWIiOiIxMjM0NTY3ODkwIn0."
    + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
)


def line(text: str) -> str:
    return "\n".join(redacted(text).lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f'token = "{GITHUB}"', 'token = "[REDACTED:GitHub Token]"'),
        (f"export KEY={AWS}", "export KEY=[REDACTED:AWS Access Key]"),
        (f"# use {ANTHROPIC} here", "# use [REDACTED:API Key] here"),
        (f"{OPENAI},{OPENAI}", "[REDACTED:API Key],[REDACTED:API Key]"),
        (f"Bearer {JWT}", "Bearer [REDACTED:JSON Web Token]"),
        ("postgres://ann:pw1234@db/x", "postgres://ann:[REDACTED:Basic Auth Credentials]@db/x"),
        ('password = "kJ3h4kjh5JKH45"', 'password = "[REDACTED:Secret Keyword]"'),
    ],
)
def test_a_secret_is_replaced_by_its_kind(text, shown):
    assert line(text) == shown
    assert sum(redacted(text).found) >= 1


@pytest.mark.parametrize(
    "text",
    [
        'password = "hunter2"',
        "def create_token(subject: str, secret: str, expires_in_s: int) -> str:",
        "password_hash = hash_password(form.password)",
        'token = os.environ["TOKEN"]',
        'commit = "3e815b9c8294352a4d1cba4bfb7d6f1157561e76"',
        'path = "src/components/UserProfileSettings-test/helpers"',
        "",
    ],
)
def test_code_that_only_speaks_of_secrets_stays_as_it_is(text):
    assert line(text) == text
    assert sum(redacted(text).found) == 0


def test_a_private_key_is_gone_and_every_other_line_keeps_its_number():
    begins, ends = "-----BEGIN RSA " + "PRIVATE KEY-----", "-----END RSA " + "PRIVATE KEY-----"

    clean = redacted(f"first\n{begins}\nMIIabc\n{ends}\nlast\n")

    hidden = "[REDACTED:Private Key]"
    assert clean.lines == ("first", hidden, hidden, hidden, "last", "")
    assert sum(clean.found) == 1
