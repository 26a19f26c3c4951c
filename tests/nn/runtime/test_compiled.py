"""What OpenVINO compiled is kept in the user's cache folder, and changes nothing but the time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bwpipe.errors import RunAborted
from bwpipe.nn.checkpoint import locate
from bwpipe.nn.runtime import compiled
from bwpipe.nn.runtime.compiled import CompiledNetworks
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from tests.nn.runtime.test_graphs import opened, written

LUMA = np.random.default_rng(0).random((1, 24, 40), np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bwpipe" / "compiled"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of a small network."""
    return written(tmp_path / "own.safetensors")


def predicted(path: Path, *, many: bool = False, **options: Any) -> NDArray[np.float32]:
    chroma: NDArray[np.float32] = opened(path, **options).predict(LUMA, many=many).chroma
    return chroma


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoRuntime, "_made", None)


@pytest.mark.parametrize("many", [False, True])
def test_a_network_is_compiled_once_for_pictures_and_once_for_each_size_of_films(
    path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    first = predicted(path, many=many)

    forbid_compiling(monkeypatch)

    assert_array_equal(predicted(path, many=many), first)
    assert len(list(cache.iterdir())) == 1
    with pytest.raises(TypeError, match="not callable"):
        predicted(path, many=not many)


def test_the_shipped_network_gives_the_same_bytes_compiled_and_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    luma = np.random.default_rng(0).random((1, 64, 96), np.float32)
    unet = locate("unet")
    first = opened(unet).predict(luma)

    forbid_compiling(monkeypatch)
    other = opened(unet).predict(luma)

    for name in ("chroma", "confidence", "features"):
        assert_array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_or_foreign_file_is_compiled_again(path: Path, cache: Path, damage: str) -> None:
    expected = predicted(path)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    network = {"name": "foreign", "weights": "", "graph": ""}
    foreign = CompiledNetworks([cache], network)
    foreign.keep({}, b"of another version of OpenVINO")
    (other,) = cache.glob("foreign-*")
    damaged = {"cut": whole[:-100], "flipped": bytes(flipped), "emptied": b"", "foreign": other.read_bytes()}
    file.write_bytes(damaged[damage])
    other.unlink()

    assert_array_equal(predicted(path), expected)
    assert file.stat().st_size == len(whole)
    assert [each.name for each in cache.iterdir()] == [file.name]


def test_other_weights_precisions_and_versions_are_compiled_for_themselves(
    path: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted(path)
    predicted(written(tmp_path / "other.safetensors", 1))
    monkeypatch.setattr("bwpipe.nn.runtime.openvino.openvino_version", lambda: "2031.0")
    predicted(path)
    monkeypatch.setattr(compiled, "processor_flags", frozenset)
    predicted(path)

    assert len(list(cache.iterdir())) == 4


def test_weights_that_change_before_they_are_compiled_end_the_run(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path / "own.safetensors", name="autoencoder")
    runtime = opened(path)
    written(path, seed=1, name="autoencoder")

    with pytest.raises(RunAborted, match=r"own\.safetensors: the checkpoint changed during the run; run again"):
        runtime.predict(LUMA)
    assert not cache.exists()


def test_what_was_not_used_for_longest_makes_room(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = CompiledNetworks([cache], {"name": "made", "weights": "", "graph": ""})
    monkeypatch.setattr(compiled, "MOST_BYTES", 350)
    for size in range(3):
        kept.keep({"size": size}, bytes([size]) * 90)
    kept.read({"size": 0})

    kept.keep({"size": 3}, b"3" * 90)
    kept.keep({"size": 4}, b"4" * 351)

    assert [kept.read({"size": size}) is not None for size in range(5)] == [True, False, True, True, False]


def test_a_cache_that_cannot_be_written_is_done_without(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = predicted(path)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))

    assert_array_equal(predicted(path), expected)


def test_without_a_home_it_is_kept_in_the_output_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    predicted(path, work=(tmp_path / "out",))

    assert len(list((tmp_path / "out" / ".bwpipe" / "compiled").iterdir())) == 1


def test_several_at_a_time_do_not_disturb_each_other(path: Path, cache: Path) -> None:
    runtimes = [opened(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda runtime: runtime.predict(LUMA).chroma, runtimes))

    for chroma in found:
        assert_array_equal(chroma, found[0])
    assert len(list(cache.iterdir())) == 1
