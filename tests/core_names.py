"""Writes docs/core_names.md: every name of ComfyUI that the pack uses, with its signature and the files that use it.

    python -m tests.core_names    (in the environment that dev.py made)

Three ways lead to a name: an import and the attributes read from it; a base class, with the methods that a class of the
pack overrides or calls on itself; a parameter whose annotation is a class of core, with the attributes read from it.
Signatures are those of the ComfyUI that dev.py fetched, without annotations, which Python prints differently from
version to version. What is reached through an object without an annotation (a block of a network, most of all) is not
seen; hosts/families says what is asked of networks, and its tests run the real ones.

Keys of core's containers are strings, and tests/core_keys.py lists them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from longreel import dev
from tests import core_keys
from tests.comfy_inprocess import import_comfyui
from tests.core_keys import nodes, place, sources, tree

PAGE = dev.ROOT / "docs" / "core_names.md"
COMMAND = "python -m tests.core_names"
OF_CORE = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
ALIASES = "hosts/types.py"  # the pack's own names of core's classes


class Missing(AttributeError):
    """A name that this ComfyUI does not have."""


def chain(node: ast.expr) -> list[str]:
    """Return a.b.c as its parts; nothing where it does not begin with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def of_core(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in OF_CORE


@cache
def own_aliases() -> dict[str, str]:
    """Return core's classes by the names that ALIASES gives them."""
    path = dev.ROOT / ALIASES
    names = imported(path)
    found = {}
    for node in tree(path).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            parts = chain(node.value)
            if parts and parts[0] in names:
                found[node.target.id] = ".".join((names[parts[0]], *parts[1:]))
    return found


def imported(path: Path) -> dict[str, str]:
    """Return what the names of a file stand for in core."""
    names = {}
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if of_core(alias.name):
                    root = alias.name.split(".")[0]
                    names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and of_core(node.module):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.level and (node.module or "").split(".")[-1] == "types":
            own = own_aliases()
            names.update({alias.asname or alias.name: own[alias.name] for alias in node.names if alias.name in own})
    return names


def used(path: Path) -> set[str]:
    """Return the names of core that a file uses, as dotted paths."""
    names = imported(path)
    modules = {
        alias.name
        for node in nodes(path)
        if isinstance(node, ast.Import)
        for alias in node.names
        if of_core(alias.name)
    }
    found = {name for name in names.values() if "." in name or name in modules}
    inner = set()
    for node in nodes(path):
        if isinstance(node, ast.Attribute):
            inner.add(node.value)
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node not in inner:
            parts = chain(node)
            if parts and parts[0] in names:
                found.add(".".join((names[parts[0]], *parts[1:])))
        elif isinstance(node, ast.ClassDef):
            found |= set(of_class(node, names))
        elif isinstance(node, ast.FunctionDef):
            found |= set(of_parameters(node, names))
    return found | modules


def of_class(cls: ast.ClassDef, names: dict[str, str]) -> Iterator[str]:
    """Yield what a class takes over from core's: the methods it overrides, and what it asks of itself."""
    for base in cls.bases:
        parts = chain(base)
        if not parts or parts[0] not in names:
            continue
        dotted = ".".join((names[parts[0]], *parts[1:]))
        parent = resolve(dotted)
        mine = {node.name for node in cls.body if isinstance(node, ast.FunctionDef)}
        asked = {
            node.attr
            for node in ast.walk(cls)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        asked |= {
            node.attr
            for node in ast.walk(cls)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Call)
            and chain(node.value.func) == ["super"]
        }
        for name in mine | asked:
            if has(parent, name) and not hasattr(object, name):
                yield f"{dotted}.{name}"


def of_parameters(function: ast.FunctionDef, names: dict[str, str]) -> Iterator[str]:
    """Yield the attributes read from parameters that are annotated with a class of core."""
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    kinds: dict[str, list[str]] = {}
    for argument in arguments:
        for annotation in one_by_one(argument.annotation):
            parts = chain(annotation)
            if parts and parts[0] in names:
                kinds.setdefault(argument.arg, []).append(".".join((names[parts[0]], *parts[1:])))
    if not kinds:
        return
    tested = {
        node.args[0].id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and chain(node.func) == ["isinstance"] and isinstance(node.args[0], ast.Name)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in kinds:
            asked = [kind for kind in kinds[node.value.id] if isinstance(resolve(kind), type)]
            holders = ((kind, holder_of(resolve(kind), node.attr)) for kind in asked)
            kind, holder = next((one for one in holders if one[1]), (asked[0] if asked else None, None))
            if holder is not None:
                yield f"{kind if holder is resolve(kind) else f'{holder.__module__}.{holder.__qualname__}'}.{node.attr}"
            elif kind is not None and node.value.id not in tested:  # else it is of a class of the pack's own
                yield f"{kind}.{node.attr}"


def one_by_one(annotation: ast.expr | None) -> list[ast.expr]:
    """Return the members of a union."""
    if isinstance(annotation, ast.BinOp):
        return [*one_by_one(annotation.left), *one_by_one(annotation.right)]
    return [] if annotation is None else [annotation]


def holder_of(cls: object, name: str) -> type | None:
    """Return the class that has an attribute: `cls`, or the first of core's classes below it."""
    if not isinstance(cls, type):
        return None
    if has(cls, name):
        return cls
    below = sorted(cls.__subclasses__(), key=lambda one: (one.__module__, one.__qualname__))
    return next((found for one in below if of_core(one.__module__) and (found := holder_of(one, name))), None)


# --- looking a name up -----------------------------------------------------------------------------------------------


@cache
def resolve(name: str) -> object:
    """Return what a dotted name is in this ComfyUI; a class's attribute that instances alone have is NotImplemented.

    Raises Missing where there is none.
    """
    import_comfyui()
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if isinstance(found, ModuleType) and not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:number]))
            except ModuleNotFoundError:
                raise Missing(f"ComfyUI has no {'.'.join(parts[:number])}") from None
        if not has(found, part):
            raise Missing(f"ComfyUI has no {'.'.join(parts[:number])}")
        if isinstance(found, type) and part == "instance":  # of a server, which runs only where ComfyUI does
            continue
        found = getattr(found, part, NotImplemented)
        if found is NotImplemented:
            break
    return found


def has(holder: object, name: str) -> bool:
    return hasattr(holder, name) or (isinstance(holder, type) and name in of_instances(holder))


@cache
def of_instances(cls: type) -> frozenset[str]:
    """Return the attributes that a class's own code sets on its instances, or on the class while it runs."""
    found = set()
    for kind in cls.__mro__:
        try:
            read = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        except (OSError, TypeError):
            continue  # a class of C
        for node in ast.walk(read):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                found |= {node.attr} if node.value.id in ("self", kind.__name__) else set()
    return frozenset(found)


def said(name: str) -> str:
    """Return a name as the page shows it: with its signature, or with what it is."""
    found = resolve(name)
    if found is NotImplemented:
        return f"`{name}` (of instances)"
    if isinstance(found, ModuleType):
        return f"`{name}` (module)"
    if isinstance(found, type):
        return f"class `{name}{signature(found)}`"
    if callable(found):
        return f"`{name}{signature(found)}`"
    if isinstance(found, property):
        return f"`{name}` (property)"
    if name.rsplit(".", maxsplit=1)[-1].isupper() and isinstance(found, str | int):
        return f"`{name} = {found!r}`"
    return f"`{name}` ({type(found).__name__})"


def signature(found: object) -> str:
    try:
        asked = inspect.signature(found)
    except (TypeError, ValueError):
        return "(...)"
    parameters = [
        parameter.replace(annotation=parameter.empty, default=shown_default(parameter.default))
        for parameter in asked.parameters.values()
    ]
    return str(asked.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


class Elided:
    """A default that does not read the same everywhere."""

    def __repr__(self) -> str:
        return "..."


def shown_default(default: object) -> object:
    plain = default is inspect.Parameter.empty or isinstance(default, str | int | float | bool | tuple | None)
    return default if (plain and not isinstance(default, tuple)) or default == () else Elided()


# --- the page --------------------------------------------------------------------------------------------------------


@cache
def by_name() -> dict[str, list[str]]:
    """Return the pack's files by the names of core that they use."""
    files = defaultdict(list)
    for path in sources():
        for name in used(path):
            files[name].append(place(path))
    return dict(sorted(files.items()))


def module_of(name: str) -> str:
    parts = name.split(".")
    while len(parts) > 1 and not isinstance(resolve(".".join(parts)), ModuleType):
        parts.pop()
    return ".".join(parts)


def page() -> str:
    lines = [
        "# Names of ComfyUI that Longreel uses",
        "",
        f"Signatures are those of ComfyUI {version()}. This page is generated: `{COMMAND}` in the environment of",
        "`python dev.py setup` writes it anew, and a test holds it against the code. It is what to read a new release",
        "of ComfyUI against: a name that moved, or a signature that lost an argument, is a place to mend.",
        "",
    ]
    sections = defaultdict(list)
    for name, files in by_name().items():
        sections[module_of(name)].append(f"- {said(name)}: {', '.join(files)}")
    for module, rows in sorted(sections.items()):
        lines += [f"## {module}", "", *rows, ""]
    lines += [
        "## Keys of core's containers",
        "",
        "Listed by hand in tests/core_keys.py, because strings resolve to nothing.",
        "",
    ]
    for key, (where, why) in sorted(core_keys.CORE_KEYS.items()):
        lines.append(f"- `{key}` in {where}: {why}; {', '.join(core_keys.files_with(key))}")
    return "\n".join(lines) + "\n"


def version() -> str:
    import_comfyui()
    return importlib.import_module("comfyui_version").__version__


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"written: {PAGE}")
