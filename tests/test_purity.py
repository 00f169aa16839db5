"""The library stays pure: none of its modules pulls in a training framework when it is imported. No modules import each other."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

IMPORT_ALL = """
import importlib, pkgutil, sys
import luffy
names = [module.name for module in pkgutil.walk_packages(luffy.__path__, "luffy.") if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({"ray", "verl", "vllm", "hydra", "transfer_queue"} & set(sys.modules)))
"""


def test_no_module_imports_a_framework():
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    number, *frameworks = done.stdout.split()
    assert int(number) >= 10
    assert frameworks == []


def imports(file: Path, modules: set[str]) -> set[str]:
    """Modules of the project that a file imports, wherever in it; names for a type checker alone aside."""
    tree, found = ast.parse(file.read_text(encoding="utf-8")), set()
    typed = {
        each for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" for each in node.body
    }
    for node in set(ast.walk(tree)) - typed:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {deeper if (deeper := f"{node.module}.{name.name}") in modules else node.module for name in node.names}
    return found & modules


def test_no_circle_among_modules():
    files = [file for top in ("luffy", "miniature", "verl/mix_src") for file in sorted((ROOT / top).rglob("*.py"))]
    named = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    graph = {name: imports(file, set(named)) - {name} for name, file in named.items()}
    assert "luffy.files" in graph["verl.mix_src.run.folder"]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
