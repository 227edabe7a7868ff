def test_health_is_public(anybody):
    assert anybody.send("GET", "/health").body == {"status": "ok"}


def test_an_unknown_path_is_not_found(anybody):
    assert anybody.send("GET", "/nowhere").status == 404


def test_a_wrong_method_is_told_apart_from_an_unknown_path(anybody):
    assert anybody.send("DELETE", "/health").status == 405


def test_a_body_that_is_not_an_object_is_refused(anybody):
    answer = anybody.send("POST", "/users", ["ada"])

    assert (answer.status, answer.body) == (400, {"error": "the body must be a JSON object"})
