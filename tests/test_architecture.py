"""What may import what: roles import `stream`, never one another, and what needs no torch starts without it."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROLES = ("allocator", "producers", "verifier", "learner", "evaluator", "tracker")
PACKAGES = (*ROLES, "benchmarks", "demo", "infra", "localkafka", "prompts", "replay", "stream")
WITHOUT_TORCH = ("torch", "vllm")


def imports_of(file: Path) -> set[str]:
    """Top-level packages that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_role_imports_no_other_role(role: str) -> None:
    files = list((ROOT / role).rglob("*.py"))
    assert files
    others = {str(file): imports_of(file) & (set(ROLES) - {role}) for file in files}
    assert {file: names for file, names in others.items() if names} == {}


def modules_of(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """Dotted name to file of every module of these packages; a package's own name is its __init__.py."""
    files = [file for package in packages for file in (root / package).rglob("*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def import_graph(root: Path, packages: Iterable[str]) -> dict[str, set[str]]:
    """Module to those of our modules that it imports, also inside functions; `import a.b` runs a/__init__ as well, which
    is left out here, as otherwise every package that names its modules in __init__ were a cycle."""
    modules = modules_of(root, packages)
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
                wanted |= inner or {node.module}
        graph[name] = (wanted & modules.keys()) - {name}
    return graph


def cycle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Some cycle of the graph, [] if there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def package_graph(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Arrows between top-level packages."""
    packages: dict[str, set[str]] = {}
    for module, imported in graph.items():
        package = module.partition(".")[0]
        packages.setdefault(package, set()).update({name.partition(".")[0] for name in imported} - {package})
    return packages


def test_no_cycle_between_packages_nor_between_modules() -> None:
    graph = import_graph(ROOT, PACKAGES)
    assert len(graph) > 100
    assert cycle_in(package_graph(graph)) == []
    assert cycle_in(graph) == []


@pytest.mark.parametrize(("line", "module_cycle"), [("import b.two", False), ("from b import one", True)])
def test_a_planted_cycle_is_found(tmp_path: Path, line: str, module_cycle: bool) -> None:
    for package in ("a", "b"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "a" / "one.py").write_text(f"def late() -> None:\n    {line}\n")
    (tmp_path / "b" / "one.py").write_text("from a.one import late\n")
    (tmp_path / "b" / "two.py").touch()
    graph = import_graph(tmp_path, ("a", "b"))
    assert set(cycle_in(package_graph(graph))) == {"a", "b"}
    assert bool(cycle_in(graph)) == module_cycle


def test_stream_imports_nothing_of_ours_and_localkafka_only_stream() -> None:
    packages = package_graph(import_graph(ROOT, PACKAGES))
    assert packages["stream"] == set()
    assert packages["localkafka"] == packages["prompts"] == {"stream"}


def test_nothing_but_benchmarks_imports_infra_which_names_all_commands_or_replay() -> None:
    packages = package_graph(import_graph(ROOT, PACKAGES))
    assert {name for name, imported in packages.items() if "infra" in imported} == {"benchmarks"}
    assert {name for name, imported in packages.items() if "replay" in imported} == {"infra", "benchmarks"}


def test_imports_are_absolute_so_that_the_graph_sees_them_all() -> None:
    for file in modules_of(ROOT, PACKAGES).values():
        nodes = ast.walk(ast.parse(file.read_text()))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), file


def test_one_place_knows_kafka() -> None:
    users = {
        str(file.relative_to(ROOT))
        for package in (*ROLES, "stream", "replay", "prompts", "infra", "localkafka")
        for file in (ROOT / package).rglob("*.py")
        if "kafka" in imports_of(file)
    }
    # ready.py asks a broker that is being started whether it answers.
    ours = ("kafka", "kafka_admin", "kafka_errors", "kafka_sockets")
    assert users == {*(f"stream/{name}.py" for name in ours), "localkafka/ready.py"}


@pytest.mark.parametrize(
    "module", ["allocator.role", "verifier.role", "replay.cli", "infra.up", "evaluator.role", "producers.role"]
)
def test_roles_without_a_model_start_without_torch(module: str) -> None:
    """A producer's engine is forked only from a process that has not run torch."""
    blocked = f"import sys\nfor name in {WITHOUT_TORCH!r}: sys.modules[name] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_no_file_unpickles_or_evaluates() -> None:
    """Law 7. `torch.load` and `yaml.load` run code too; what is kept is safetensors, msgpack, JSON and TOML."""
    forbidden = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    calls = {"eval", "exec"}
    for package in (*ROLES, "stream", "replay", "prompts", "infra", "localkafka", "demo"):
        for file in (ROOT / package).rglob("*.py"):
            assert not imports_of(file) & forbidden, file
            names = {
                n.func.id
                for n in ast.walk(ast.parse(file.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            }
            assert not names & calls, file


def test_prompts_are_tokenized_without_torch() -> None:
    blocked = f"import sys\nfor name in {WITHOUT_TORCH!r}: sys.modules[name] = None\n"
    code = blocked + (
        "from prompts.sources import load_prompts\nfrom prompts.tokens import tokenize\nfrom stream.config import load\n"
        "config = load('configs/demo.toml', ['--prompts.num_heldout', '1'])\n"
        "pool, heldout = load_prompts(config)\nprint(tokenize(heldout, config)[heldout[0].prompt_id].size)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "6\n", done.stderr
