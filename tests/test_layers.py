"""Imports point down only: detector -> proposals -> third parties, and within detector from high layers to low ones."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]

# Low to high. A unit may import those of its own layer (without a cycle) and of the layers before it.
LAYERS = (
    ("types", "strict_yaml", "shown"),
    ("images", "crop", "nets", "data", "evaluation", "runs", "report"),
    ("detection",),
    ("model",),
    ("training",),
    ("recipes", "experiment", "serving"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}

# What a verb may import before it is called; anything else would slow down `detector --help`.
LIGHT = {"typer", "rich", "proposals.errors", "detector.commands", "detector.shown"}
STANDARD_LIBRARY_THAT_IS_SLOW = {"asyncio", "multiprocessing", "unittest", "urllib", "http", "sqlite3"}


def module_name(path: Path, root: Path = ROOT) -> str:
    """``detector.data.voc`` for ``detector/data/voc.py``; a package for its ``__init__.py``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in ("detector", "proposals") for path in (ROOT / package).rglob("*.py")}


def imports_of(source: str, known: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """Every module that ``source`` imports, by its whole name, wherever in it the import stands.

    ``from a import b`` is ``a.b`` where that is one of the ``known`` modules, otherwise ``a``.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole module"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def imports_of_module(name: str) -> set[str]:
    return set(imports_of(MODULES[name].read_text(encoding="utf-8"), set(MODULES)))


def unit_of(name: str) -> str | None:
    """``data`` for ``detector.data.voc``; None outside detector, and for the package itself, which loads lazily."""
    parts = name.split(".")
    return parts[1] if parts[0] == "detector" and len(parts) > 1 else None


def layer_faults(edges: dict[str, set[str]], rank: dict[str, int]) -> list[str]:
    """The imports of ``edges`` (module -> modules) that point from a low layer of detector to a higher one."""
    faults = []
    for importer, imported in sorted(edges.items()):
        above = unit_of(importer)
        for target in sorted(imported):
            below = unit_of(target)
            if above and below and rank[below] > rank[above]:
                faults.append(f"{importer} (layer {rank[above]}) imports {target} (layer {rank[below]})")
    return faults


def cycle_in(edges: dict[str, set[str]]) -> list[str] | None:
    """The nodes of one cycle, or None."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def between_units(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same imports seen from afar: packages inside detector in place of their modules."""
    units: dict[str, set[str]] = {}
    for importer, imported in edges.items():
        source = unit_of(importer)
        if source:
            units.setdefault(source, set()).update(
                unit for target in imported if (unit := unit_of(target)) and unit != source
            )
    return units


# detector/__init__ names modules for type checkers only and loads them on first use.
EDGES = {
    name: {
        target for target in imports_of_module(name) if target in MODULES and target not in ("detector", "proposals")
    }
    for name in MODULES
    if name not in ("detector", "proposals")
}


def test_layers_point_down_and_without_a_cycle() -> None:
    units = {unit for name in MODULES if (unit := unit_of(name))}
    assert units - set(RANK) == set(), "give the new module its place in LAYERS"
    assert layer_faults(EDGES, RANK) == []
    assert cycle_in(EDGES) is None
    assert cycle_in(between_units(EDGES)) is None


def test_proposals_never_import_detector() -> None:
    names = [name for name in MODULES if name.split(".")[0] == "proposals"]
    assert [name for name in names for target in imports_of_module(name) if target.split(".")[0] == "detector"] == []


def test_nothing_imports_the_tools() -> None:
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert tools, "the tools have moved"
    own = {"tools", "benchmarks"}
    assert [name for name in MODULES for target in imports_of_module(name) if target.split(".")[0] in own] == []


def top_level_imports(path: Path) -> set[str]:
    """What importing the module imports: not what stands in functions or under ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    tree.body = [node for node in body if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return set(imports_of(ast.unparse(tree), set(MODULES)))


VERBS = [f"detector.commands.{verb.replace('-', '_')}" for verb in COMMANDS]


@pytest.mark.parametrize("name", [*VERBS, "detector.commands", "detector.commands.console", "detector.cli"])
def test_a_verb_is_imported_at_no_cost(name: str) -> None:
    heavy = []
    for target in top_level_imports(MODULES[name]):
        top = target.split(".")[0]
        allowed = any(target == light or target.startswith(f"{light}.") for light in LIGHT)
        if not (allowed or (top in sys.stdlib_module_names and top not in STANDARD_LIBRARY_THAT_IS_SLOW)):
            heavy.append(target)
    assert heavy == [], "move these imports into the function"


IMPORT_NAMES = {
    "pil": "pillow", "cv2": "opencv-python", "yaml": "pyyaml", "skimage": "scikit-image", "sklearn": "scikit-learn",
    "markdown_it": "markdown-it-py", "pydantic_core": "pydantic",
}  # fmt: skip
OPTIONAL = {"ray"}
"""Taken where they are installed, never needed."""


def test_every_third_party_import_is_required_in_setup() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = {name.lower() for name in re.findall(r'"([A-Za-z][A-Za-z0-9_.-]*)\s*[<>=!~]', text)}
    missing = set()
    for name in MODULES:
        for target in imports_of_module(name):
            top = target.split(".")[0]
            if top in sys.stdlib_module_names or top in ("detector", "proposals") or top in OPTIONAL:
                continue
            if IMPORT_NAMES.get(top.lower(), top.lower()) not in required:
                missing.add(f"{name} imports {top}")
    assert missing == set()


# --- the checks themselves ----------


def test_an_upward_import_and_a_cycle_within_a_layer_are_found() -> None:
    edges = {"detector.crop": {"detector.model.load"}, "detector.model.load": {"detector.types", "detector.crop"}}
    assert layer_faults(edges, RANK) == ["detector.crop (layer 1) imports detector.model.load (layer 3)"]
    edges = {"detector.data.voc": {"detector.report.html"}, "detector.report.html": {"detector.data.strings"}}
    assert cycle_in(edges) is None
    assert cycle_in(between_units(edges)) is not None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import detector.crop", {"detector.crop"}),
        ("from detector import crop", {"detector.crop"}),
        ("from detector import __version__", {"detector"}),
        ("def f():\n    from detector import crop", {"detector.crop"}),
        ("if TYPE_CHECKING:\n    import detector.crop", {"detector.crop"}),
    ],
)
def test_imports_are_found_in_every_form(source: str, expected: set[str]) -> None:
    assert set(imports_of(source, {"detector", "detector.crop"})) == expected
