"""What other packages add by entry points."""

import importlib.metadata

import pytest

from vargfacenet import registry
from vargfacenet.errors import SettingError
from vargfacenet.symbols.registry import NETWORKS


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch):
    broken = importlib.metadata.EntryPoint("broken", "nothing_of_that_name:build", "vargfacenet.networks")
    monkeypatch.setattr(registry, "_entry_points", lambda group: [broken])
    assert "broken" in NETWORKS
    with pytest.raises(
        SettingError, match="the network 'broken' cannot be loaded from nothing_of_that_name:build .*No module"
    ):
        NETWORKS["broken"]
