import pytest


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the registries to bwpipe's own classes during a test, and discard what the test registers."""
    from bwpipe.core import plugins  # here, since losses and networks import torch, which most tests do not need
    from bwpipe.core.stage import stages
    from bwpipe.losses import losses
    from bwpipe.nn.network import networks

    plugins.load()
    for registry in (stages, networks, losses):
        ours = {name: registry[name] for name in registry if registry[name].__module__.startswith("bwpipe.")}
        monkeypatch.setattr(registry, "_classes", ours)
