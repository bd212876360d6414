"""Fingerprints of a run's inputs (hashes of files and versions of packages), and their changes.

A *fingerprint* has a name, a hash and the part of the configuration that needs the input. The fingerprints
of an imported function are those of its module and of all modules of the same folder that it imports,
directly or indirectly; imports are read from the sources, and nothing is executed. A module of an installed
package is identified by the package's version.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import platform
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from recurate.core.programs import PLACEHOLDER
from recurate.core.sealed import sha256

PACKAGES, DEVICE = "packages", "device"
# Packages that affect results.
NAMED = (
    *("numpy", "scipy", "pyarrow", "torch", "scikit-learn", "safetensors"),
    *("transformers", "tokenizers", "peft"),
)
NOTED = (PACKAGES, DEVICE)  # changes of these are reported, but do not stop a resume


@dataclass(frozen=True)
class Fingerprint:
    """One input of a run.

    Attributes:
        serves: Part of the configuration that needs it, such as ``rewards.helpful``; or ``packages`` or
            ``device``.
        name: Path of a file, relative to the current folder if it lies below it; or ``package NAME``.
        digest: SHA-256 of a file, or version of a package; None if absent.
        kept: Whether the run keeps a copy, so that the original may be removed.
        word: Whether a word of a command names the file, so that the program may write it and it may appear.
    """

    serves: str
    name: str
    digest: str | None
    kept: bool = False
    word: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a file that existed when the fingerprint was taken."""
        return self.serves not in NOTED and self.digest is not None and not self.name.startswith("package ")


@dataclass(frozen=True)
class Change:
    """A change of a fingerprint.

    Attributes:
        serves: Part of the configuration, as in :class:`Fingerprint`.
        name: Name of the input, as in :class:`Fingerprint`.
        was: Digest before the change; None if it was absent.
        now: Digest after the change; None if it is absent.
        round: First round that was run after the change.
        when: Time at which the change was accepted, in UTC.
    """

    serves: str
    name: str
    was: str | None
    now: str | None
    round: int = 0
    when: str = ""

    @property
    def noted(self) -> bool:
        """Whether it is only reported and does not stop a resume."""
        return self.serves in NOTED

    def __str__(self) -> str:
        if self.noted:
            return f"{self.name} was {self.was or 'absent'} and is {self.now or 'absent'}"
        fate = "was added" if self.was is None else "is missing" if self.now is None else "has changed"
        return f"{self.name} ({self.serves}) {fate}"


def changes(then: Iterable[Fingerprint], now: Iterable[Fingerprint]) -> list[Change]:
    """Return the changes from ``then`` to ``now``.

    Originals that were removed although the run keeps a copy are not changes, nor are new files that a word
    of a command names.
    """
    old = {(f.serves, f.name): f for f in then}
    new = {(f.serves, f.name): f for f in now}
    gone = [key for key, part in old.items() if key not in new and part.digest and not part.kept]
    added = [key for key, part in new.items() if key not in old and not part.word]
    other = [key for key in old if key in new and old[key].digest != new[key].digest]
    digest = {key: part.digest for key, part in new.items()}
    return [
        Change(*key, old[key].digest if key in old else None, digest.get(key))
        for key in sorted([*gone, *added, *other])
    ]


def after(then: Iterable[Fingerprint], recorded: Iterable[Change]) -> list[Fingerprint]:
    """Return fingerprints after applying recorded changes in their order."""
    found = {(f.serves, f.name): f for f in then}
    for change in recorded:
        key = change.serves, change.name
        found[key] = replace(found.get(key, Fingerprint(*key, None)), digest=change.now)
    return list(found.values())


# --- files ----------------------------------------------------------------------------------------


def of_files(
    serves: str, paths: Iterable[Path], *, kept: bool = False, word: bool = False
) -> list[Fingerprint]:
    """Return the fingerprints of the files that exist."""
    found = dict.fromkeys(path for path in paths if path.is_file())
    return [Fingerprint(serves, _shown(path), sha256(path), kept, word) for path in found]


def of_folder(serves: str, folder: Path, *, kept: bool = False) -> list[Fingerprint]:
    """Return the fingerprints of all files below a folder."""
    return of_files(serves, sorted(folder.rglob("*")), kept=kept)


def of_command(serves: str, command: Sequence[str], folder: Path) -> list[Fingerprint]:
    """Return the fingerprints of the files that the words of a command name.

    A word names a file by its path, also after ``--option=``, or as a module after ``-m``. For Python
    scripts, modules that they import from their own folder are included. The program itself is included only
    if its resolved path lies in the folder or the current one, so interpreters are not.

    Args:
        serves: Part of the configuration that holds the command.
        command: Words of the command.
        folder: Folder that the command runs in.
    """
    files: list[Path] = []
    packages: set[str] = set()
    for i, word in enumerate(command):
        if PLACEHOLDER.search(word):
            continue
        path = folder / (word.partition("=")[2] if word.startswith("-") else word)
        if i and command[i - 1] == "-m":
            module, path = word, folder / "-"
        elif not os.path.isfile(path) or (i == 0 and not _own_program(word, folder)):
            continue
        else:
            files.append(path)
            module = path.stem if path.suffix == ".py" else ""
        if module:
            sources, imported = _imported(module, path.parent)
            files += sources
            packages |= imported
    return of_files(serves, files, word=True) + _of_packages(packages)


def _own_program(word: str, folder: Path) -> bool:
    path = (folder / word).resolve()
    return os.sep in word and any(path.is_relative_to(f.resolve()) for f in (folder, Path.cwd()))


def _shown(path: Path) -> str:
    whole = Path(os.path.normpath(path.absolute()))
    here = Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


# --- modules --------------------------------------------------------------------------------------


def of_function(serves: str, title: str) -> list[Fingerprint]:
    """Return the fingerprints of ``module:name``: its sources, or the version of its installed package.

    The versions of packages that the sources import are added as ``packages``. A module that cannot be found
    has no fingerprints; its import raises the error.
    """
    module = title.partition(":")[0]
    root = _root(module.partition(".")[0])
    if root is None:
        return []
    if _installed(root):
        return [Fingerprint(serves, f"package {f.name}", f.digest) for f in _of_packages([module])]
    sources, packages = _imported(module, root)
    return of_files(serves, sources) + _of_packages(packages)


def _root(name: str) -> Path | None:
    """Return the folder from which a module or package is imported; the current folder is searched last."""
    spec: ModuleSpec | None
    try:
        spec = importlib.util.find_spec(name) or PathFinder.find_spec(name, [str(Path.cwd())])
    except (ImportError, ValueError):  # a module created in memory, without a file
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).parent
    return Path(spec.origin).parent if spec.has_location and spec.origin else None


def _installed(folder: Path) -> bool:
    parts = {"site-packages", "dist-packages"}
    return bool(parts & set(folder.parts)) or folder.is_relative_to(sysconfig.get_path("stdlib"))


def _of_packages(modules: Iterable[str]) -> list[Fingerprint]:
    """Return the versions of the installed packages that contain the modules."""
    found: dict[str, str | None] = {}
    for name in sorted({m.partition(".")[0] for m in modules} - sys.stdlib_module_names):
        owners = [name] if version(name) else metadata.packages_distributions().get(name, ())
        found |= {owner: version(owner) for owner in owners}
    return [Fingerprint(PACKAGES, name, number) for name, number in found.items()]


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Return the versions of everything that affects results, by name: Python, recurate and packages."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("recurate", *NAMED)}


def _imported(module: str, root: Path) -> tuple[list[Path], set[str]]:
    """Return the sources below ``root`` of a module and of its imports, and the names of other modules."""
    sources: dict[Path, None] = {}
    elsewhere: set[str] = set()
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        files = _files_of(name, root)
        if not files and not (root / name.partition(".")[0]).is_dir():
            elsewhere.add(name)
        for file in files:
            if file not in sources:
                sources[file] = None
                waiting += _imports(file, root)
    return sorted(sources), elsewhere


def _files_of(name: str, root: Path) -> list[Path]:
    """Return the source of a module, and the ``__init__.py`` of every package that contains it."""
    place, found = root, []
    for part in name.split("."):
        place = place / part
        found += [place.with_name(f"{part}.py"), place / "__init__.py"]
    return [path for path in found if path.is_file()]


def _imports(file: Path, root: Path) -> list[str]:
    """Return the dotted names of all modules that a source may import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []
    package = file.parent.relative_to(root).parts
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
    return [name for name in found if name]
