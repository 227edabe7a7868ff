"""The working tree on disk that a request works in. Synchronous: called in a thread.

Paths from a model go through `safe_path` before anything is read or written.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from factory.artifact.v1 import Change, Pack
from worktree import TooLarge, UnsafePath, apply_change, checkout, diff_text, record_change, safe_path

from executor.blocks import Blocks, Edit
from executor.edits import FILE_BYTES_MAX, DoesNotApply, applied, paths_of
from executor.redaction import Redactions


@dataclass(slots=True)
class Tree:
    """A checkout of the base commit with the change so far applied."""

    root: Path
    base_commit: str
    parent: str = ""
    parent_tree: str = ""
    diff: str = ""
    # files that the change so far touches, as they are now; None for one it deletes
    touched: dict[str, str | None] = field(default_factory=dict)
    redactions: Redactions = field(default_factory=Redactions)


def prepared(
    root: Path, bundle: bytes, base_commit: str, change: Change | None, change_digest: str, pack: Pack
) -> Tree:
    """Checks the snapshot out, learns what the pack hides, and applies the change so far."""
    checkout(bundle, base_commit, root)
    tree = Tree(root, base_commit)
    for file in pack.files:
        if (text := _read(root, file.path)) is not None:
            tree.redactions.learn(file.path, text, file.text, file.first_line)
    if change is None:
        return tree
    known = {file.path for file in pack.files}
    paths = _paths_in(change.patch)
    existed = {path for path in paths if _read(root, path) is not None}
    apply_change(root, change)
    tree.parent, tree.parent_tree = change_digest, change.tree
    tree.diff = tree.redactions.hide(diff_text(change))
    for path in paths:
        text = _read(root, path)
        # A file that context did not show may hold what it would have hidden: the diff alone has to do.
        if path in known or path not in existed:
            tree.touched[path] = None if text is None else tree.redactions.hide(text)
    return tree


def change_by(tree: Tree, blocks: Blocks) -> Change:
    """Carries the edits out, all or none, and records the change; DoesNotApply with the complaint to the model."""
    places = {path: _place(tree.root, path) for path in paths_of(blocks)}
    files = {path: _text(place, path) for path, place in places.items()}
    changed = applied(_as_in_the_files(blocks, tree.redactions), files)
    try:
        for path, text in changed.items():
            _write(places[path], path, text)
        change = record_change(tree.root, tree.base_commit, tree.parent)
        if not change.patch or change.tree == tree.parent_tree:
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
        place.write_bytes(text.encode(errors="replace"))
    except IsADirectoryError as error:
        raise DoesNotApply(f"{path} is a directory, not a file.") from error


def _write_back(place: Path, text: str | None) -> None:
    if text is not None:
        place.write_bytes(text.encode())
    elif place.is_file():
        place.unlink()


def _read(root: Path, path: str) -> str | None:
    """The text of a file that exists and can be shown; None for any other."""
    try:
        place = safe_path(root, path)
        if place.is_file() and place.stat().st_size <= FILE_BYTES_MAX:
            return place.read_bytes().decode()
    except (UnsafePath, UnicodeDecodeError, OSError):
        return None
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
