"""docs/metrics.md names every figure that the code makes, and none that it does not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("allocator", "producers", "verifier", "learner", "evaluator", "tracker", "stream")
NAME = re.compile(r"(consumer|allocator|producer|verifier|learner|evaluator|evaluation|tracker)(/[\w@*]+)+")


def strings(tree: ast.AST) -> Iterator[str]:
    """String literals, with * for what an f-string puts in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_the_table_of_metrics_is_complete() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    in_code = {text for file in files for text in strings(ast.parse(file.read_text())) if NAME.fullmatch(text)}
    cells = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    in_table = {re.sub(r"<\w+>", "*", cell) for cell in cells}
    assert len(cells) == len(in_table)
    assert {"learner/ess", "learner/groups/*", "verifier/idle_share", "evaluation/*/*"} <= in_code
    assert in_code - in_table == set(), "add them to docs/metrics.md"
    assert in_table - in_code == set(), "docs/metrics.md has names that nothing makes"
