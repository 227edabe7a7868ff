"""The working tree on disk that a request works in. Synchronous: called in a thread.

Paths from a model go through `safe_path` before anything is read or written.
"""

import shutil
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

from factory.artifact.v1 import Change, Pack
from worktree import TooLarge, UnsafePath, apply_change, diff_text, record_change, safe_path

from executor.adapters.bases import own_checkout
from executor.blocks import Blocks, Edit
from executor.edits import FILE_BYTES_MAX, DoesNotApply, applied, paths_of
from executor.patches import NotPlain, Patched, patched
from executor.redaction import Redactions


@dataclass(slots=True)
class Tree:
    """The base commit with the change so far: read in the base, and in its own checkout once something is written."""

    # the checkout of the base, which others read too
    base: Path
    # where its own is made
    root: Path
    base_commit: str
    change: Change | None = None
    parent: str = ""
    diff: str = ""
    # the files that the change so far touches; None where only git can apply it, and has
    changed: tuple[Patched, ...] | None = ()
    # the same as they may be shown; None for one that was deleted
    touched: dict[str, str | None] = field(default_factory=dict)
    redactions: Redactions = field(default_factory=Redactions)
    is_own: bool = False

    def own(self) -> Path:
        """The checkout that this request may change, with the change so far applied."""
        if not self.is_own:
            try:
                self._make_own()
            except BaseException:
                shutil.rmtree(self.root, ignore_errors=True)
                raise
            self.is_own = True
        return self.root

    def _make_own(self) -> None:
        own_checkout(self.base, self.root)
        if self.changed is None and self.change is not None:
            apply_change(self.root, self.change)
        for file in self.changed or ():
            _put(self.root, file)


def learned(base: Path, pack: Pack) -> Redactions:
    """What the pack hides of the base."""
    redactions = Redactions()
    for file in pack.files:
        if (text := _read(base, file.path)) is not None:
            redactions.learn(file.path, text, file.text, file.first_line)
    return redactions


def prepared(
    base: Path,
    root: Path,
    base_commit: str,
    change: Change | None,
    change_digest: str,
    pack: Pack,
    redactions: Redactions | None = None,
) -> Tree:
    """Learns what the pack hides of the base, unless that is known, and what the change so far has made of it."""
    tree = Tree(base, root, base_commit, redactions=redactions or learned(base, pack))
    if change is None:
        return tree
    known = {file.path for file in pack.files}
    tree.change, tree.parent = change, change_digest
    tree.diff = tree.redactions.hide(diff_text(change))
    for path, text in _texts_now(tree, change).items():
        # A file that context did not show may hold what it would have hidden: the diff alone has to do.
        if path in known or _read(base, path) is None:
            tree.touched[path] = None if text is None else tree.redactions.hide(text)
    return tree


def _texts_now(tree: Tree, change: Change) -> dict[str, str | None]:
    """The files that the change touches, as they are now."""
    try:
        tree.changed = patched(change.patch, lambda path: _bytes(tree.base, path))
        return {file.path: _shown(file.content) for file in tree.changed}
    except (NotPlain, UnicodeDecodeError, UnsafePath, OSError):
        tree.changed = None
        root = tree.own()
        return {path: _read(root, path) for path in _paths_in(change.patch)}


def _put(root: Path, file: Patched) -> None:
    place = safe_path(root, file.path)
    if file.content is None:
        place.unlink()
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    _replace(place, file.content, is_executable=file.is_executable)


def _replace(place: Path, content: bytes, *, is_executable: bool | None = None) -> None:
    """Puts another file in this place: the one that is there may be the base's, too. None leaves its mode as it is."""
    if place.is_dir():
        raise IsADirectoryError(str(place))
    if is_executable is None:
        is_executable = place.is_file() and bool(place.stat().st_mode & stat.S_IXUSR)
    place.unlink(missing_ok=True)
    place.write_bytes(content)
    if is_executable:
        place.chmod(0o755)


def change_by(tree: Tree, blocks: Blocks) -> Change:
    """Carries the edits out, all or none, and records the change; DoesNotApply with the complaint to the model."""
    root = tree.own()
    places = {path: _place(root, path) for path in paths_of(blocks)}
    files = {path: _text(place, path) for path, place in places.items()}
    changed = applied(_as_in_the_files(blocks, tree.redactions), files)
    try:
        for path, text in changed.items():
            _write(places[path], path, text)
        change = record_change(root, tree.base_commit, tree.parent)
        if not change.patch or (tree.change is not None and change.tree == tree.change.tree):
            raise DoesNotApply("Its edits change nothing that the repository keeps: it ignores these files.")
    except (DoesNotApply, TooLarge) as refused:
        # The next answer is for the files as they were.
        for path in changed:
            _write_back(places[path], files[path])
        raise DoesNotApply(str(refused)) from refused
    return change


def _as_in_the_files(blocks: Blocks, redactions: Redactions) -> Blocks:
    """The blocks with the lines that the model could only see redacted."""
    return replace(
        blocks,
        edits=tuple(
            replace(
                edit,
                splits=tuple(
                    (redactions.restore(edit.path, search), redactions.restore(edit.path, put))
                    for search, put in edit.splits
                ),
            )
            if isinstance(edit, Edit)
            else edit
            for edit in blocks.edits
        ),
    )


def _place(root: Path, path: str) -> Path:
    try:
        return safe_path(root, path)
    except UnsafePath as refused:
        raise DoesNotApply(f"{refused}.") from refused


def _text(place: Path, path: str) -> str | None:
    if not place.exists():
        return None
    if not place.is_file():
        raise DoesNotApply(f"{path} is a directory, not a file.")
    if place.stat().st_size > FILE_BYTES_MAX:
        raise DoesNotApply(f"{path} has more than {FILE_BYTES_MAX} bytes; it cannot be edited.")
    try:
        return place.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DoesNotApply(f"{path} is not UTF-8 text; it cannot be edited.") from error


def _write(place: Path, path: str, text: str | None) -> None:
    if text is None:
        place.unlink()
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DoesNotApply(f"{path} lies below something that is a file.") from error
    try:
        _replace(place, text.encode(errors="replace"))
    except IsADirectoryError as error:
        raise DoesNotApply(f"{path} is a directory, not a file.") from error


def _write_back(place: Path, text: str | None) -> None:
    if text is not None:
        _replace(place, text.encode())
    elif place.is_file():
        place.unlink()


def _read(root: Path, path: str) -> str | None:
    """The text of a file that exists and can be shown; None for any other."""
    try:
        return _shown(_bytes(root, path))
    except (UnsafePath, OSError):
        return None


def _bytes(root: Path, path: str) -> bytes | None:
    place = safe_path(root, path)
    return place.read_bytes() if place.is_file() else None


def _shown(content: bytes | None) -> str | None:
    if content is None or len(content) > FILE_BYTES_MAX:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _paths_in(patch: bytes) -> list[str]:
    """The files that a patch touches; its headers name both sides alike, because renames are off."""
    paths: list[str] = []
    for line in patch.splitlines():
        if line.startswith(b"diff --git a/"):
            sides = line[len(b"diff --git a/") :]
            middle = (len(sides) - len(b" b/")) // 2
            if sides[middle : middle + 3] == b" b/" and sides[:middle] == sides[middle + 3 :]:
                paths.append(sides[:middle].decode(errors="replace"))
    return list(dict.fromkeys(paths))
