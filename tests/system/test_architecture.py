"""The contract of the rooms, which ``make lint`` checks, stays shallow."""

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
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def imported_rooms(room):
    """Return the rooms that the modules of a room import."""
    path = PACKAGE / room
    modules = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for module in modules:
        depth = len(module.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module] if node.module else [n.name for n in node.names]
                found |= {name.split(".")[0] for name in names}
    return found - {room}


def test_contract_has_at_most_seven_layers(layers):
    assert len(layers) <= 7


def test_contract_names_every_room(layers):
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    rooms -= {"__init__", "__pycache__"}
    assert rooms == {room for layer in layers for room in layer}


def test_longest_chain_of_imports_has_at_most_seven_rooms(layers):
    @cache
    def depth(room):
        return 1 + max(map(depth, imported_rooms(room)), default=0)

    depths = {room: depth(room) for layer in layers for room in layer}
    assert depths["estimator"] > depths["training"] > depths["data"]
    assert max(depths.values()) + 1 <= 7  # with the package's own __init__


def test_rooms_import_only_rooms_of_lower_layers(layers):
    floor = {room: -i for i, layer in enumerate(layers) for room in layer}
    for room in floor:
        assert all(floor[other] < floor[room] for other in imported_rooms(room))


def test_rooms_have_at_most_eight_modules(layers):
    for layer in layers:
        for room in layer:
            modules = set((PACKAGE / room).glob("*.py")) - {
                PACKAGE / room / "__init__.py"
            }
            assert len(modules) <= 8
