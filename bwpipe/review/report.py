"""The static page of an output folder: one HTML file that needs no server, nor anything else."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from PIL import Image

from bwpipe.core.atomic_file import WORK_FOLDER, write_output
from bwpipe.core.parallel import cores, ordered_map
from bwpipe.errors import BwpipeError, UsageError
from bwpipe.review.entries import Album, Entry, to_json
from bwpipe.review.page import page
from bwpipe.review.shots import ShotPictures, pictures_of_shots, prefix_of
from bwpipe.review.thumbnails import Pair, Store, key_of, pair_of

NAME = "report.html"
"""The page's name in the output folder."""
EMBEDDED = 64 * 1024 * 1024
"""Bytes of small pictures up to which they are in the page itself: some 3,000 pictures. Above they stand beside it."""
SHOTS, LOOPS = 400, 80
"""How many shots the page shows, the most doubtful ones, and how many of them with a loop."""
_SHOWN_BY_BROWSERS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif"})


class _Images:
    """The images of a page, by number: embedded as long as they are few, else files in the output folder."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.data: list[bytes] = []
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """The number of an image; `name` is its file's in the `Store`."""
        self.names.append(name)
        self.size += len(data)
        if self.embedded:
            self.data.append(data)
        else:
            self.data.clear()
        return len(self.names) - 1

    @property
    def embedded(self) -> bool:
        return self.size <= EMBEDDED


def write_report(album: Album, target: Path, show: Callable[[int], None] = lambda done: None) -> list[str]:
    """Write the page.

    Args:
        album: What it shows.
        target: The page, absolute.
        show: Called with the number of pictures and shots that are ready.

    Returns:
        What can't be shown, a sentence each.

    Raises:
        UsageError: There are too many pictures for a page in another folder.
        RunAborted: It can't be written.
    """
    store, images, problems = Store(album.folder), _Images(), list[str]()
    entries = chosen(album)
    looped = {entry.number for entry in sorted(_shots(entries), key=lambda each: -each.figures["doubt"])[:LOOPS]}
    pictures: dict[int, dict[str, Any]] = {}
    for entry, found in _pictures(entries, looped, store):
        show(len(pictures) + 1)
        if isinstance(found, Exception):
            problems.append(f"{entry.file.name}: can't be shown: {found}")
        pictures[entry.number] = {} if isinstance(found, Exception) else _references(entry, found, images)
    data = to_json(album)
    beside = target.parent == album.folder
    if not images.embedded and not beside:
        much = f"{images.size // 1_000_000} MB of small pictures are too many for one file"
        raise UsageError(f"{target}: {much}; write the page into {album.folder}, where they stand beside it")
    listed = data["entries"]
    data["entries"] = [{**listed[entry.number], **pictures.get(entry.number, {})} for entry in entries]
    data["omitted"] = len(album.entries) - len(entries)
    if beside:
        _add_links(album, data)
    if not images.embedded:
        data["images"] = [f"{WORK_FOLDER}/{store.place.name}/{name}" for name in images.names]
    store.remove_others(set(images.names) | {name for entry in entries for name in _kept_names(entry)})
    write_output(target, "".join(page(data, images.data if images.embedded else ())))
    return problems


def chosen(album: Album) -> list[Entry]:
    """The entries that the page shows: all pictures, and the most doubtful shots."""
    shots = sorted(_shots(album.entries), key=lambda each: -each.figures["doubt"])[:SHOTS]
    kept = {entry.number for entry in shots}
    return [entry for entry in album.entries if not entry.file.film or entry.number in kept]


def _shots(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.file.film]


def _pictures(
    entries: Sequence[Entry], looped: set[int], store: Store
) -> Iterator[tuple[Entry, Pair | ShotPictures | Exception]]:
    """The small pictures of each entry; photographs several at a time."""

    def pair(entry: Entry) -> tuple[Entry, Pair | Exception]:
        try:
            return entry, pair_of(entry.file, store)
        except (BwpipeError, OSError) as error:
            return entry, error

    yield from ordered_map(pair, [entry for entry in entries if not entry.file.film], cores())
    for _, group in groupby(_shots(entries), key=lambda entry: entry.file.target):
        shots = list(group)
        done: set[int] = set()
        try:
            for entry, found in pictures_of_shots(shots, looped, store):
                done.add(entry.number)
                yield entry, found
        except (BwpipeError, OSError) as error:
            yield from ((entry, error) for entry in shots if entry.number not in done)


def _references(entry: Entry, found: Pair | ShotPictures, images: _Images) -> dict[str, Any]:
    """What the page is told about the pictures of an entry."""
    if isinstance(found, Pair):
        key = key_of(entry.file)
        before = {} if found.before is None else {"before": images.add(f"{key}-before.webp", found.before)}
        return {"after": images.add(f"{key}.webp", found.after), **before, "size": size_of(found.after)}
    if not found.frames:
        return {}
    prefix = prefix_of(entry)
    frames = [images.add(f"{prefix}-{number}.webp", data) for number, data in enumerate(found.frames)]
    loop = {} if found.loop is None else {"loop": images.add(f"{prefix}-loop.webp", found.loop), "count": found.count}
    return {"after": frames[len(frames) // 2], "frames": frames, **loop, "size": size_of(found.frames[0])}


def size_of(image: bytes) -> list[int]:
    """Width and height of a small picture."""
    with Image.open(BytesIO(image)) as opened:  # reads the header only
        return list(opened.size)


def _kept_names(entry: Entry) -> Iterator[str]:
    """The names of files that stay although the page may not show them."""
    with suppress(OSError):
        yield f"{key_of(entry.file)}-before.webp"
        yield f"{prefix_of(entry)}-loop.webp"


def _add_links(album: Album, data: dict[str, Any]) -> None:
    """Tell the page where the files themselves are, for those that browsers show."""
    targets = list(dict.fromkeys(entry.file.target for entry in album.entries))
    for file, target in zip(data["files"], targets, strict=True):
        if target.suffix.lower() in _SHOWN_BY_BROWSERS:
            file["href"] = link(target.relative_to(album.folder))


def link(path: PurePath) -> str:
    """A relative path as an address; never one of another scheme or place."""
    return f"./{quote(bytes(path))}"
