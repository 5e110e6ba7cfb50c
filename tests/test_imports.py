"""Imports flow one way: a room may use the rooms before it, never a sibling or one after it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "situ"

# rooms of one rank are siblings and do not import each other
RANKS = [
    {"core"},
    {"networks", "runs"},
    {"generators", "segmenters", "discovery", "inversion", "metrics", "photos"},
    {"checkpoints"},
    {"packs"},
    {"figures"},
    {"bench"},
    {"studio"},
    {"cli"},
]
RANK = {room: i for i, rooms in enumerate(RANKS) for room in rooms}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE)


def imported_rooms(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "situ" else {f"situ.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("situ.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_flow_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0]
    assert own in RANK, f"the room {own} has no rank in this test"
    for room in imported_rooms(path) - {own}:
        assert RANK[room] < RANK[own], f"{path.name} in {own} must not import from {room}"


def test_the_core_needs_no_room_of_ours() -> None:
    rooms = {room for path in FILES if path.relative_to(SOURCE).parts[0] == "core" for room in imported_rooms(path)}
    assert rooms == {"core"}
