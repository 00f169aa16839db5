"""What docs/architecture.md and CONTRIBUTING.md claim: the files are there, imports go downwards, and a setting is one place."""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path

import pytest

import luffy
from verl.mix_src.upstream import VERL_VERSION

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "README.md")
LEVELS = ("luffy", "verl.mix_src", "miniature")  # each may import those before it


def imports(file: Path) -> set[str]:
    """Modules that a file imports, wherever in it, but for those that are imported for their types alone."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def modules() -> dict[str, Path]:
    """Module files by dotted name."""
    files = [file for level in LEVELS for file in (ROOT / level.replace(".", "/")).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:luffy|verl|miniature|data|tests|docs|exp_scripts|eval_scripts)/[\w./-]*)`", text))
    named |= {f"{Path(page).parent}/{link}" for link in re.findall(r"\]\(([\w./-]+\.(?:md|png))\)", text)}
    assert len(named) > 5
    made_by_commands = {name for name in named if name.endswith(".parquet")}
    assert [name for name in sorted(named - made_by_commands) if not (ROOT / name).exists()] == []


def test_the_tree_lists_the_files_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree, room = text[text.index("```") + 4 : text.index("```", text.index("```") + 3)], None
    for line in tree.splitlines():
        names = re.findall(r"(?<!\S)([\w/]+(?:\.py|/))(?!\S*`)", line)
        if line.startswith(("luffy/", "verl/", "miniature/")):
            room = ROOT / names[0]
            assert room.is_dir()
        elif line.startswith("  "):
            for name in names[:1]:
                assert (room / name).exists(), line


def test_imports_go_downwards() -> None:
    for name, file in modules().items():
        level = next(number for number, each in enumerate(LEVELS) if name == each or name.startswith(f"{each}."))
        above = LEVELS[level + 1 :]
        assert [each for each in imports(file) if each.startswith(above)] == [], name


def test_the_version_is_one() -> None:
    assert f"version: {luffy.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert metadata.version("luffy-rl") == luffy.__version__
    pinned = {line.split()[0] for file in ROOT.glob("requirements*") for line in file.read_text().splitlines() if line.startswith("verl==")}
    assert pinned == {f"verl=={VERL_VERSION}"}
