"""The documents, held to the repository: links and paths lead somewhere, tables and laws are those of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_architecture import PACKAGES, ROLES, ROOT, import_graph, package_graph

from stream import topics
from stream.topics import TOPICS, Topic

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [file for folder in (*PACKAGES, "tests", "configs") for file in (ROOT / folder).rglob("*.*")]
TEXTS = [*DOCUMENTS, ROOT / "Makefile", *(file for file in SOURCES if file.suffix in (".py", ".toml", ".html"))]
DESIGN = (ROOT / "docs" / "design.md").read_text()
SUFFIXES = (".py", ".md", ".toml", ".json", ".jsonl", ".svg", ".txt", "/")
"""Of what is taken for a path, if it has a slash and begins with the name of a folder of the repository."""


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def anchors_of(file: Path) -> set[str]:
    """Fragments that a document's headings make, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths_in(text: str) -> Iterator[str]:
    """Paths of the repository between backticks, alone or in a command."""
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in re.split(r"[\s,:]+", quoted):
            if "/" in word and word.endswith(SUFFIXES) and (ROOT / word.partition("/")[0]).is_dir():
                yield word


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_path_in_backticks_exists(document: Path) -> None:
    assert [path for path in paths_in(document.read_text()) if not any(ROOT.glob(path))] == []


def test_every_document_that_a_file_names_exists() -> None:
    named = {(name_of(file), path) for file in TEXTS for path in re.findall(r"\bdocs/\w+\.md\b", file.read_text())}
    assert [(file, path) for file, path in sorted(named) if not (ROOT / path).exists()] == []


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    """Notes of ours and numbers of tickets: a source is a paper and its equation, or a file that is here."""
    pattern = re.compile(r"algorithms\.md|DESIGN\.md|review\.md|\b[Ii]ssues? #?\d+")
    assert [(name_of(file), found) for file in TEXTS for found in pattern.findall(file.read_text())] == []


def test_every_law_that_is_cited_is_in_the_design() -> None:
    laws = re.findall(r"^### Law (\d): .+$", DESIGN, re.MULTILINE)
    assert laws == [str(number) for number in range(1, 9)]
    cited = {law for file in TEXTS for law in re.findall(r"\b[Ll]aws? (\d+)", file.read_text())}
    assert cited <= set(laws)


def test_every_law_names_the_tests_that_hold_it() -> None:
    for section in DESIGN.split("\n### Law ")[1:]:
        tests = section.partition("\n## ")[0].partition("Tests: ")[2]
        assert re.search(r"`tests/\S+\.py`", tests), section.splitlines()[0]


def rows_below(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading of the design, its own heading left out."""
    section = DESIGN.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split(" |")] for line in lines[2:]]


def test_the_table_of_topics_is_that_of_the_code() -> None:
    def kept(topic: Topic) -> str:
        if topic.compacted:
            return "newest of a key"
        if topic.segment_bytes:
            return "newest versions"
        return "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // topics.HOUR_MS} hours"

    assert rows_below("Topics") == [
        [t.name, t.message_type.__name__, t.key, "many" if t.partitioned else "one", t.writers, t.readers, kept(t)]
        for t in TOPICS
    ]


@pytest.mark.parametrize("package", ROLES)
def test_a_role_uses_the_topics_that_say_so(package: str) -> None:
    used: set[str] = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "stream.topics":
                found = [getattr(topics, alias.name) for alias in node.names]
                used |= {topic.name for topic in found if isinstance(topic, Topic)}
    role = {"producers": "producer"}.get(package, package)
    assert used == {t.name for t in TOPICS if role in f"{t.writers}, {t.readers}".split(", ")}


def test_the_table_of_packages_is_that_of_the_code() -> None:
    imports = package_graph(import_graph(ROOT, PACKAGES))
    documented = {row[0].strip("/"): row[2] for row in rows_below("Where to find what")}
    assert documented.keys() == imports.keys()
    assert documented.pop("benchmarks") == "what they measure"
    for package, cell in documented.items():
        assert imports[package] == set(cell.split(", ")) - {"none"}, package
