"""What the project uses of veRL, vLLM, Ray and TransferQueue, found in its source: the table ``upstream_contract.txt``.

A line is a function or class and names of its parameters. All of them, ``name(parameters)``, for a method of an upstream class that a
subclass overrides, or calls by ``self.`` or ``super().``, and for a function that is handed on or replaced; those that are given,
``name: parameters``, for what is called by an imported name.
``python tests/upstream_contract.py`` writes it anew: read the difference, and look at each place that it names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_suffix(".txt")
PACKAGES = ("verl", "vllm", "ray", "transfer_queue")
OWN = "verl.mix_src"


def is_upstream(module: str) -> bool:
    """Whether a module belongs to another project."""
    return module.split(".")[0] in PACKAGES and not f"{module}.".startswith(f"{OWN}.")


def unwrapped(found: object) -> object:
    """The class under Ray's decoration."""
    return getattr(getattr(found, "__ray_metadata__", None), "modified_class", found)


def resolve(path: str) -> object:
    """What stands at ``module.attribute.attribute``."""
    parts = path.split(".")
    found = importlib.import_module(parts[0])
    for number, name in enumerate(parts[1:], 2):
        if not hasattr(found, name):  # a submodule that nothing imported yet
            importlib.import_module(".".join(parts[:number]))
        found = unwrapped(getattr(found, name))
    return found


def signature(found: object) -> inspect.Signature | None:
    """Parameters, less the one that Ray adds to methods of its actors; None where a built-in shows none."""
    try:
        shown = inspect.signature(found)
    except (TypeError, ValueError):
        return None
    return shown.replace(parameters=[each for name, each in shown.parameters.items() if name != "_ray_trace_ctx"])


class Module(ast.NodeVisitor):
    """One source file: the calls of upstream names, and what its classes define and call of themselves."""

    def __init__(self, path: Path) -> None:
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        self.names: dict[str, str] = {}  # local name -> upstream path
        self.calls: list[tuple[str, ast.Call]] = []
        self.handed_on: set[str] = set()
        self.methods: dict[str, set[str]] = {}  # class -> what it defines, and what it calls by self. and super().
        self._own: set[str] = set()
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            if is_upstream(name.name):
                top = name.name if name.asname else name.name.split(".")[0]
                self.names[name.asname or top] = top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level == 0 and is_upstream(node.module):
            self.names.update({name.asname or name.name: f"{node.module}.{name.name}" for name in node.names})

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._own = {part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
        self._own |= {name.id for part in node.body if isinstance(part, ast.Assign) for name in part.targets if isinstance(name, ast.Name)}
        self.methods[node.name] = self._own
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) in ("self", "cls", "super()"):
            self._own.add(called.attr)
        path = self._path(called)
        if path is None:
            self.generic_visit(node)
            return
        self.calls.append((path, node))
        for part in [*node.args, *node.keywords]:
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is None:
            self.generic_visit(node)
        else:
            self.handed_on.add(path)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.names:
            self.handed_on.add(self.names[node.id])

    def _path(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Attribute):
            under = self._path(node.value)
            if node.attr in ("__ray_metadata__", "modified_class"):
                return under
            return under and f"{under}.{node.attr}"
        return self.names.get(node.id) if isinstance(node, ast.Name) else None


def modules() -> Iterator[Module]:
    """Every file of the library and of the extension."""
    for folder in ("luffy", "verl"):
        yield from map(Module, sorted((ROOT / folder).rglob("*.py")))


def inherited(module: Module, defined: dict[str, set[str]]) -> Iterator[tuple[str, object]]:
    """Upstream methods under the methods and calls of a module's classes, mixins included."""
    for name in module.methods:
        family = unwrapped(getattr(importlib.import_module(module.name), name)).__mro__
        upstream = [each for each in family if is_upstream(each.__module__)]
        own = {method for each in family for method in defined.get(f"{each.__module__}.{each.__qualname__}", ())}
        for method in own:
            for each in upstream:
                if method in vars(each):
                    found = inspect.unwrap(getattr(vars(each)[method], "fget", None) or vars(each)[method])
                    yield f"{found.__module__}.{found.__qualname__}", found
                    break


def given(call: ast.Call, shown: inspect.Signature) -> set[str]:
    """Names of the parameters that a call gives; a keyword that upstream does not know is marked."""
    names = list(shown.parameters)
    keywords = {keyword.arg for keyword in call.keywords if keyword.arg}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in shown.parameters.values())
    return set(names[: len(call.args)]) | {name if name in names or open_ended else f"unknown:{name}" for name in keywords}


def collect() -> list[str]:
    """The lines of the table."""
    found = list(modules())
    defined = {f"{module.name}.{name}": methods for module in found for name, methods in module.methods.items()}
    whole: dict[str, str] = {}
    used: dict[str, set[str]] = defaultdict(set)
    for module in found:
        for path, method in inherited(module, defined) if any(is_upstream(path) for path in module.names.values()) else ():
            whole[path] = ", ".join(signature(method).parameters)
        for path in module.handed_on:
            if inspect.isfunction(handed := resolve(path)):
                whole[path] = ", ".join(signature(getattr(handed, "upstream", handed)).parameters)
        for path, call in module.calls:
            if (shown := signature(resolve(path))) is not None:
                used[path] |= given(call, shown)
    lines = {f"{path}({names})" for path, names in whole.items()}
    return sorted(lines | {f"{path}: {', '.join(sorted(names)) or 'nothing'}" for path, names in used.items()})


if __name__ == "__main__":
    TABLE.write_text("\n".join(collect()) + "\n", encoding="utf-8")
