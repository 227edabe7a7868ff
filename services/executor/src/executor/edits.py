"""Applies a model's blocks to the files as they are: exactly, or where only white space differs.

Pure: texts in, texts out. All blocks of an answer apply or none does, and a complaint names the file, the block and
the lines that come closest. Where files may lie is not decided here but by `worktree.safe_path`.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from executor.blocks import Blocks, Deletion, Edit

FILES_MAX = 60
FILE_BYTES_MAX = 512 * 1024
PLACES_SHOWN_MAX = 5
CLOSEST_LINES_MAX = 12
SIMILAR_ENOUGH = 0.6


class DoesNotApply(Exception):
    """The edits cannot be carried out; the message is the complaint to the model."""


def paths_of(blocks: Blocks) -> list[str]:
    """Every file that the blocks touch, once, in order; DoesNotApply when there are none or too many."""
    paths = list(dict.fromkeys(edit.path for edit in blocks.edits))
    if not paths:
        raise DoesNotApply("It holds no edit: there is no `FILE:` line followed by a SEARCH block, and no `DELETE:`.")
    if len(paths) > FILES_MAX:
        raise DoesNotApply(f"It edits {len(paths)} files; at most {FILES_MAX} are allowed.")
    return paths


def applied(blocks: Blocks, files: Mapping[str, str | None]) -> dict[str, str | None]:
    """The files as they are after the edits, only those that differ; None stands for a file that is not there."""
    now = dict(files)
    for edit in blocks.edits:
        now[edit.path] = _one(edit, now[edit.path])
    for path, text in now.items():
        if text is not None and (size := len(text.encode(errors="replace"))) > FILE_BYTES_MAX:
            raise DoesNotApply(f"{path} would have {size} bytes; at most {FILE_BYTES_MAX} are allowed.")
    changed = {path: text for path, text in now.items() if text != files[path]}
    if not changed:
        raise DoesNotApply("Its edits change nothing: every file is already as they would make it.")
    return changed


def _one(edit: Edit | Deletion, text: str | None) -> str | None:
    match edit:
        case Deletion():
            if text is None:
                raise DoesNotApply(f"`DELETE: {edit.path}` names a file that does not exist.")
            return None
        case Edit(is_whole_file=True):
            return _joined(edit.splits[0][1], text)
        case Edit():
            if text is not None:
                return _replaced(edit, text)
            raise DoesNotApply(
                f"Block {edit.number} of {edit.path} searches a file that does not exist. "
                "To create a file, leave the SEARCH part empty."
            )


def _replaced(edit: Edit, text: str) -> str:
    """The text with the one place that the block means replaced."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    # The longest reading first: it is the one that chance does not make.
    for search, replace in reversed(edit.splits):
        for places in _places(search, lines):
            if len(places) > 1:
                raise DoesNotApply(_ambiguous(edit, places))
            if places:
                at, shift = places[0]
                lines[at : at + len(search)] = [_shifted(line, shift) for line in replace]
                return newline.join(lines)
    raise DoesNotApply(_not_found(edit, lines))


Shift = tuple[str, str]
"""Indentation to take away and to put in its place."""


def _places(search: Sequence[str], lines: Sequence[str]) -> Iterator[list[tuple[int, Shift]]]:
    """Where the lines stand: by ever more tolerant rules, of which the first that finds a place counts."""
    yield [(at, ("", "")) for at in _windows(search, lines)]
    trimmed, stripped = [line.rstrip() for line in search], [line.rstrip() for line in lines]
    yield [(at, ("", "")) for at in _windows(trimmed, stripped)]
    bare = [line.strip() for line in search]
    if not any(bare):
        return
    found = []
    for at in _windows(bare, [line.strip() for line in lines]):
        shift = _shift(trimmed, stripped[at : at + len(trimmed)])
        if shift is not None:
            found.append((at, shift))
    yield found


def _windows(search: Sequence[str], lines: Sequence[str]) -> list[int]:
    wanted, size = list(search), len(search)
    return [at for at in range(len(lines) - size + 1) if lines[at] == wanted[0] and lines[at : at + size] == wanted]


def _shift(search: Sequence[str], found: Sequence[str]) -> Shift | None:
    """The one change of indentation that turns every searched line into the one found; None when there is no such."""
    pairs = [(_indent(s), _indent(f)) for s, f in zip(search, found, strict=True) if s]
    away, put = min(pairs, key=lambda pair: len(pair[0]))
    same = all(f == put + s.removeprefix(away) and s.startswith(away) for s, f in pairs)
    return (away, put) if same else None


def _shifted(line: str, shift: Shift) -> str:
    away, put = shift
    if not line.strip() or away == put:
        return line
    return put + line.removeprefix(away)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _joined(lines: Sequence[str], before: str | None) -> str:
    """A whole file: it ends with a newline, and keeps the line ends that it had."""
    text = "\n".join(lines)
    if text and not text.endswith("\n"):
        text += "\n"
    return text.replace("\n", "\r\n") if before is not None and "\r\n" in before else text


def _ambiguous(edit: Edit, places: Sequence[tuple[int, Shift]]) -> str:
    shown = ", ".join(str(at + 1) for at, _ in places[:PLACES_SHOWN_MAX])
    more = f" and {len(places) - PLACES_SHOWN_MAX} more" if len(places) > PLACES_SHOWN_MAX else ""
    return (
        f"Block {edit.number} of {edit.path} fits {len(places)} places (lines {shown}{more}). "
        "Add lines around it to the SEARCH part until it fits one place only."
    )


def _not_found(edit: Edit, lines: Sequence[str]) -> str:
    search = edit.splits[0][0]
    complaint = f"Block {edit.number} of {edit.path}: its SEARCH lines do not stand in the file."
    closest = _closest(search, lines)
    if closest is None:
        return f"{complaint} No line of the file is like them; the file has {len(lines) - (not lines[-1])} lines."
    end = min(closest + min(len(search), CLOSEST_LINES_MAX), len(lines))
    shown = "\n".join(f"{at + 1:>5} | {lines[at]}" for at in range(closest, end))
    return f"{complaint} The closest lines of the file are:\n{shown}"


def _closest(search: Sequence[str], lines: Sequence[str]) -> int | None:
    """Where the file is most like the searched lines: the longest common run, else the most similar single line."""
    wanted, given = [line.strip() for line in search], [line.strip() for line in lines]
    # Empty lines and lone brackets are everywhere and tell nothing.
    told = {line for line in wanted if len(line) > 1}
    run = difflib.SequenceMatcher(lambda line: line not in told, wanted, given, autojunk=False).find_longest_match()
    if run.size:
        return max(run.b - run.a, 0)
    for offset, line in enumerate(wanted):
        if near := difflib.get_close_matches(line, given, n=1, cutoff=SIMILAR_ENOUGH) if len(line) > 1 else []:
            return max(given.index(near[0]) - offset, 0)
    return None
