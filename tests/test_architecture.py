"""What may import what: roles import `stream`, never one another, and what needs no torch starts without it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROLES = ("allocator", "producers", "verifier", "learner", "evaluator", "tracker")
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


@pytest.mark.parametrize("package", ["stream", "prompts"])
def test_what_all_share_imports_no_role(package: str) -> None:
    imported = {name for file in (ROOT / package).rglob("*.py") for name in imports_of(file)}
    assert imported & {*ROLES, "infra", "replay"} == set()


def test_one_place_knows_kafka() -> None:
    users = {
        str(file.relative_to(ROOT))
        for package in (*ROLES, "stream", "replay", "prompts", "infra", "localkafka")
        for file in (ROOT / package).rglob("*.py")
        if "kafka" in imports_of(file)
    }
    # ready.py asks a broker that is being started whether it answers.
    assert users == {"stream/kafka.py", "localkafka/ready.py"}


@pytest.mark.parametrize("module", ["allocator.role", "verifier.role", "replay.cli", "infra.up", "evaluator.role"])
def test_roles_without_a_model_start_without_torch(module: str) -> None:
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
