"""Registries of classes by name."""

import pytest

from bwpipe.core.registry import Registry, UnknownNameError, hint


class Thing:
    pass


class Other(Thing):
    pass


@pytest.fixture
def things() -> Registry[Thing]:
    registry: Registry[Thing] = Registry("thing")
    registry.register("thing")(Thing)
    registry.register("other")(Other)
    return registry


def test_a_class_is_found_by_its_name_and_names_are_sorted(things: Registry[Thing]) -> None:
    assert things["other"] is Other
    assert list(things) == ["other", "thing"]


def test_a_name_can_be_registered_only_once(things: Registry[Thing]) -> None:
    with pytest.raises(ValueError, match=r"^thing 'other' is in both \S+ and \S+$"):
        things.register("other")(Thing)

    assert things["other"] is Other


def test_a_near_miss_is_answered_with_the_closest_name(things: Registry[Thing]) -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown thing 'othr'; did you mean 'other'\?$"):
        things["othr"]


def test_a_far_miss_is_answered_with_all_names(things: Registry[Thing]) -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown thing 'x'; known: other, thing$"):
        things["x"]


def test_a_hint_works_on_any_names() -> None:
    assert hint("bach", ["batch", "path"]) == "did you mean 'batch'?"
