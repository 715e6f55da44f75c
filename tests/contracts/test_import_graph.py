"""The import graph of opsin has no cycles, with imports inside of functions; imports for types alone are left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import opsin

ROOT = Path(opsin.__file__).parent
ALLOWED = {
    ("opsin.runs.folder", "opsin.report"): "`run.report()` writes the report",
    ("opsin.runs.folder", "opsin.report.notebook"): "a run in a notebook shows its card",
}
"""Imports against the direction of the data, each with its reason; docs/architecture.md names them."""
SUB_PACKAGES = ("opsin.data", "opsin.models", "opsin.training")
"""Packages whose sub-packages must not import each other in a circle."""

Graph = Mapping[str, frozenset[str]]


def module_name(file: Path, root: Path, package: str) -> str:
    parts = [package, *file.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from running_nodes(child)


def imported(tree: ast.AST, modules: frozenset[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    names: set[str] = set()
    for node in running_nodes(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names.update(inside & modules or {str(node.module)})
    return names & modules


def import_graph(root: Path = ROOT, package: str = "opsin") -> Graph:
    """For each module those that it imports."""
    files = {module_name(file, root, package): file for file in root.rglob("*.py")}
    modules = frozenset(files)
    return {
        name: frozenset(imported(ast.parse(file.read_text()), modules) - {name}) for name, file in sorted(files.items())
    }


def cycle_in(graph: Graph) -> list[str] | None:
    """Names along one cycle, the first one repeated at the end; None without a cycle."""
    done: set[str] = set()
    path: list[str] = []

    def search(name: str) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        found = next((cycle for other in sorted(graph[name]) if (cycle := search(other))), None)
        path.pop()
        done.add(name)
        return found

    return next((cycle for name in sorted(graph) if (cycle := search(name))), None)


def without(graph: Graph, edges: Mapping[tuple[str, str], str]) -> Graph:
    return {name: frozenset(other for other in others if (name, other) not in edges) for name, others in graph.items()}


def of_sub_packages(graph: Graph, package: str) -> Graph:
    """The graph of the direct children of a package that are packages themselves."""
    depth = package.count(".") + 2
    children = {
        name for name in graph if name.startswith(f"{package}.") and any(n.startswith(f"{name}.") for n in graph)
    }
    children = {".".join(name.split(".")[:depth]) for name in children}
    edges: dict[str, set[str]] = {name: set() for name in children}
    for name, others in graph.items():
        start = ".".join(name.split(".")[:depth])
        ends = {".".join(other.split(".")[:depth]) for other in others}
        if start in children:
            edges[start] |= (ends & children) - {start}
    return {name: frozenset(others) for name, others in edges.items()}


def test_no_import_cycle_functions_included() -> None:
    cycle = cycle_in(without(import_graph(), ALLOWED))
    assert cycle is None, "modules import each other: " + " -> ".join(cycle)


def test_no_import_cycle_between_sub_packages() -> None:
    graph = import_graph()
    for package in SUB_PACKAGES:
        cycle = cycle_in(of_sub_packages(graph, package))
        assert cycle is None, "packages import each other: " + " -> ".join(cycle)


def test_allowed_imports_are_still_there_and_close_a_cycle() -> None:
    graph = import_graph()
    for start, end in ALLOWED:
        assert end in graph[start], f"{start} no longer imports {end}: remove it from ALLOWED"
        assert cycle_in(without(graph, {edge: "" for edge in ALLOWED if edge != (start, end)})) is not None


def test_a_cycle_through_a_function_is_named_and_one_for_types_is_not(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text(
        "import typing\nif typing.TYPE_CHECKING:\n    from pack import c\nfrom pack.b import x\n"
    )
    (tmp_path / "b.py").write_text("def f():\n    from pack import a\n    return a\nx = 1\n")
    (tmp_path / "c.py").write_text("from pack import a\n")
    assert cycle_in(import_graph(tmp_path, "pack")) == ["pack.a", "pack.b", "pack.a"]
    (tmp_path / "b.py").write_text("x = 1\n")
    assert cycle_in(import_graph(tmp_path, "pack")) is None
