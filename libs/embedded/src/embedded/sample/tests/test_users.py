import secrets

from jotter import passwords


def test_a_new_user_is_told_their_id(anybody, account):
    answer = anybody.send("POST", "/users", account("ada"))

    assert (answer.status, answer.body) == (201, {"id": 1, "name": "ada"})


def test_a_name_can_be_taken_only_once(anybody, account):
    anybody.send("POST", "/users", account("ada"))

    assert anybody.send("POST", "/users", account("ada")).status == 409


def test_a_short_password_is_refused(anybody, account):
    answer = anybody.send("POST", "/users", account("ada") | {"password": "a" * 9})

    assert answer.body == {"error": "'password' needs 10 characters"}


def test_a_password_matches_its_own_hash_and_no_other():
    phrase = secrets.token_urlsafe()
    stored = passwords.hash_password(phrase)

    assert passwords.matches(phrase, stored)
    assert not passwords.matches(phrase + "!", stored)


def test_the_same_password_never_has_the_same_hash_twice():
    phrase = secrets.token_urlsafe()

    assert passwords.hash_password(phrase) != passwords.hash_password(phrase)
