"""What is handed to workers in one go."""

from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from bwpipe.cluster.batches import Units
from bwpipe.core.frame import Media, Unit
from bwpipe.core.segments import split_into_segments
from bwpipe.engine.planner import Plan


class Film(Media):
    """A film that is in no file."""

    has_segments = True


def media(kind: type[Media], name: str, frames: int) -> Unit:
    options: dict[str, Any] = {"path": Path("/", name), "name": PurePosixPath(name), "width": 8, "height": 8}
    return Unit(kind(**options, frames=frames))


def units(pictures: int, films: int = 0, frames: int = 1500, segment: int = 100) -> Units:
    plan = Plan()
    for number in range(films):
        whole = media(Film, f"{number}.mkv", frames)
        segments = split_into_segments(whole, segment)
        plan.todo.extend(segments)
        plan.files.update(dict.fromkeys(segments, whole))
    plan.todo[1:1] = [media(Media, f"{number}.png", 1) for number in range(pictures)]
    return Units(plan)


def test_pieces_of_pictures_become_smaller_towards_the_end() -> None:
    pieces = list(units(600).pieces(3))

    assert list(chain(*pieces)) == list(range(600))
    assert [len(piece) for piece in pieces] == sorted(map(len, pieces), reverse=True)
    assert len(pieces[0]) == 16
    assert len(pieces[-3]) == 1


def test_rows_of_a_film_are_cut_where_workers_would_wait_for_them() -> None:
    film = units(0, films=1)

    assert [len(piece) for piece in film.pieces(1)] == [10, 5]
    assert [len(piece) for piece in film.pieces(3)] == [2, 3, 2, 3, 2, 3]
    assert [len(piece) for piece in film.pieces(20)] == [1] * 15


def test_films_come_first_and_every_unit_is_in_one_piece() -> None:
    mixed = units(20, films=2)
    pieces = list(mixed.pieces(2))

    assert sorted(chain(*pieces)) == list(range(len(mixed.units)))
    assert [mixed.units[piece[0]].media.has_segments for piece in pieces] == sorted(
        (mixed.units[piece[0]].media.has_segments for piece in pieces), reverse=True
    )
    assert all(len({mixed.file_of[number] for number in piece}) == 1 for piece in pieces[:4])
