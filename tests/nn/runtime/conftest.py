import pytest

from tests.support.compiled_networks import compile_each_network


@pytest.fixture(autouse=True)
def _compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile networks in each test, as users' runs do."""
    compile_each_network(monkeypatch)
