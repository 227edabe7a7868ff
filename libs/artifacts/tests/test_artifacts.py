import asyncio
import shutil
from pathlib import Path

import pytest
from artifacts import ArtifactDamaged, ArtifactMissing, DirectoryArtifacts
from hypothesis import given, settings
from hypothesis import strategies as st

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryArtifacts:
    return DirectoryArtifacts(tmp_path / "artifacts")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_what_was_put_is_got_back_by_its_sha256(store, tmp_path):
    ref = await store.put(b"hello")

    assert (ref.digest, ref.size) == (HELLO, 5)
    assert await store.get(HELLO) == b"hello"
    assert files(tmp_path) == [f"artifacts/2c/{HELLO}"]


def test_any_bytes_survive_the_round_trip(tmp_path_factory):
    store = DirectoryArtifacts(tmp_path_factory.mktemp("any"))

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=5000))
    def round_trip(data):
        async def put_and_get():
            return await store.get((await store.put(data)).digest)

        assert asyncio.run(put_and_get()) == data

    round_trip()


async def test_putting_twice_is_putting_once(store, tmp_path):
    first, second = await store.put(b"hello"), await store.put(b"hello")

    assert first == second
    assert files(tmp_path) == [f"artifacts/2c/{HELLO}"]


async def test_many_puts_at_once_of_equal_and_different_bytes_all_succeed(store):
    refs = await asyncio.gather(*(store.put(b"%d" % (n % 5)) for n in range(60)))

    assert len({ref.digest for ref in refs}) == 5
    assert sorted([await store.get(digest) async for digest in store.digests()]) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_missing_artifact_is_named(store):
    with pytest.raises(ArtifactMissing, match=HELLO):
        await store.get(HELLO)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", HELLO.upper(), HELLO[:63], HELLO + "\n", "x" * 64])
async def test_what_is_not_a_digest_is_missing_and_never_a_path(store, tmp_path, name):
    (tmp_path / "artifacts").mkdir()

    with pytest.raises(ArtifactMissing):
        await store.get(name)
    assert not await store.exists(name)
    assert not await store.erase(name)


async def test_a_flipped_bit_is_noticed_and_the_next_put_heals_it(store, tmp_path):
    await store.put(b"hello")
    (tmp_path / "artifacts/2c" / HELLO).write_bytes(b"hellp")

    with pytest.raises(ArtifactDamaged, match=HELLO):
        await store.get(HELLO)
    await store.put(b"hello")
    assert await store.get(HELLO) == b"hello"


async def test_an_erased_artifact_is_gone_and_erasing_it_again_says_so(store):
    await store.put(b"hello")

    assert await store.exists(HELLO)
    assert await store.erase(HELLO) is True
    assert await store.erase(HELLO) is False
    assert not await store.exists(HELLO)


async def test_leftovers_of_a_put_that_was_killed_are_never_seen(store, tmp_path):
    unfinished = tmp_path / "artifacts/.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / HELLO).write_bytes(b"hel")

    assert [digest async for digest in store.digests()] == []
    await store.put(b"hello")
    assert [digest async for digest in store.digests()] == [HELLO]


async def test_what_was_erased_is_stored_again_by_the_next_put(store):
    await store.put(b"hello")
    await store.erase(HELLO)
    await store.put(b"hello")

    assert await store.get(HELLO) == b"hello"


async def test_two_stores_in_one_directory_heal_and_forget_what_the_other_knows(store, tmp_path):
    other = DirectoryArtifacts(tmp_path / "artifacts")
    await store.put(b"hello")
    await other.erase(HELLO)
    await store.put(b"hello")
    await other.put(b"hello")
    (tmp_path / "artifacts/2c" / HELLO).write_bytes(b"hellp")
    await store.put(b"hello")

    assert await other.get(HELLO) == b"hello"


async def test_gets_at_once_each_have_their_own_answer(store):
    refs = await asyncio.gather(*(store.put(b"%d" % n) for n in range(5)))
    digests = [ref.digest for ref in refs]
    found = await asyncio.gather(*map(store.get, [*digests, HELLO, "nonsense"]), return_exceptions=True)

    assert found[:5] == [b"0", b"1", b"2", b"3", b"4"]
    assert [type(one) for one in found[5:]] == [ArtifactMissing, ArtifactMissing]


async def test_who_waits_no_more_for_a_get_takes_nothing_from_the_others(store):
    await store.put(b"hello")
    gone, kept = (asyncio.ensure_future(store.get(HELLO)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()

    assert await kept == b"hello"


async def test_a_directory_that_somebody_has_taken_away_is_made_again(store, tmp_path):
    await store.put(b"hello")
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(FileNotFoundError):
        await store.put(b"hello")
    await store.put(b"hello")

    assert await store.get(HELLO) == b"hello"


async def test_a_put_that_fails_leaves_nothing_behind(store, tmp_path):
    await store.put(b"hello")
    (tmp_path / "artifacts/2c" / HELLO).unlink()
    (tmp_path / "artifacts/2c" / HELLO).mkdir()
    with pytest.raises(OSError, match=HELLO):
        await store.put(b"hello")

    assert files(tmp_path) == []
