SHOPPING = {"title": "Shopping", "text": "milk, eggs"}


def test_a_note_can_be_written_and_read_back(ada):
    note = ada.send("POST", "/notes", SHOPPING).body

    assert ada.send("GET", f"/notes/{note['id']}").body["text"] == "milk, eggs"


def test_notes_are_listed_newest_first(ada):
    for title in ("first", "second"):
        ada.send("POST", "/notes", {"title": title, "text": "..."})

    titles = [note["title"] for note in ada.send("GET", "/notes").body["notes"]]
    assert titles == ["second", "first"]


def test_a_note_can_be_changed(ada):
    note = ada.send("POST", "/notes", SHOPPING).body

    ada.send("PUT", f"/notes/{note['id']}", {"title": "Shopping", "text": "bread"})

    assert ada.send("GET", f"/notes/{note['id']}").body["text"] == "bread"


def test_a_removed_note_is_gone(ada):
    note = ada.send("POST", "/notes", SHOPPING).body

    assert ada.send("DELETE", f"/notes/{note['id']}").status == 204
    assert ada.send("GET", f"/notes/{note['id']}").status == 404


def test_nobody_sees_the_notes_of_others(ada, grace):
    note = ada.send("POST", "/notes", SHOPPING).body

    assert grace.send("GET", f"/notes/{note['id']}").status == 404
    assert grace.send("GET", "/notes").body == {"notes": []}


def test_a_caller_who_does_not_say_who_they_are_is_refused(anybody):
    assert anybody.send("GET", "/notes").status == 401


def test_a_note_needs_a_title(ada):
    assert ada.send("POST", "/notes", {"text": "milk"}).body == {"error": "'title' is required"}
