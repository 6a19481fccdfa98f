"""The contract of the subpackages, which ``make lint`` checks, stays shallow."""

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pnl_sklearn"


@pytest.fixture(scope="module")
def layers():
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers")
    return [[subpackage.strip() for subpackage in layer.split("|")] for layer in layers]


def imported_subpackages(subpackage):
    """Return the subpackages that the modules of a subpackage import."""
    path = PACKAGE / subpackage
    modules = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for module in modules:
        depth = len(module.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module] if node.module else [n.name for n in node.names]
                found |= {name.split(".")[0] for name in names}
    return found - {subpackage}


def test_contract_has_at_most_seven_layers(layers):
    assert len(layers) <= 7


def test_contract_names_every_subpackage(layers):
    subpackages = {
        path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")
    }
    subpackages -= {"__init__", "__pycache__"}
    assert subpackages == {subpackage for layer in layers for subpackage in layer}


def test_longest_chain_of_imports_has_at_most_seven_subpackages(layers):
    @cache
    def depth(subpackage):
        return 1 + max(map(depth, imported_subpackages(subpackage)), default=0)

    depths = {subpackage: depth(subpackage) for layer in layers for subpackage in layer}
    assert depths["estimator"] > depths["training"] > depths["data"]
    assert max(depths.values()) + 1 <= 7  # with the package's own __init__


def test_subpackages_import_only_subpackages_of_lower_layers(layers):
    floor = {subpackage: -i for i, layer in enumerate(layers) for subpackage in layer}
    for subpackage in floor:
        assert all(
            floor[other] < floor[subpackage]
            for other in imported_subpackages(subpackage)
        )


def test_subpackages_have_at_most_eight_modules(layers):
    for layer in layers:
        for subpackage in layer:
            modules = set((PACKAGE / subpackage).glob("*.py")) - {
                PACKAGE / subpackage / "__init__.py"
            }
            assert len(modules) <= 8
