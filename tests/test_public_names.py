"""The names at the top of the package: each resolves in its module."""

from importlib import import_module

import pytest

import matpac


@pytest.mark.parametrize("name", [name for name in matpac.__all__ if name != "__version__"])
def test_every_name_resolves(name):
    assert getattr(matpac, name) is getattr(import_module(f"matpac.{matpac._MODULES[name]}"), name)


def test_a_name_that_does_not_exist():
    assert not hasattr(matpac, "lode")
    assert set(dir(matpac)) == set(matpac.__all__)
