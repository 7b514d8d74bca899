"""Rules of the code that tools do not check: annotations, numbers of parameters, places of imports, one copy of a module."""

import ast
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

import jedi
import pytest

import vargfacenet
from tests.conftest import LONGEST

PACKAGE = pathlib.Path(vargfacenet.__file__).parent
ROOT = pathlib.Path(__file__).resolve().parents[1]
MOST_PARAMETERS = 7
NOT_OPENINGS = ("As", "By", "How", "It", "What", "Whether", "Which", "Who", "Whose")  # of a docstring

# Functions of more parameters, and why.
MANY_PARAMETERS = {
    "symbols/heads.py margin_softmax": "the options of a loss are declared one by one",
    "symbols/layers.py convolution": "the parameters of MXNet's Convolution",
    "symbols/margins/adadistill.py adadistill": "the options of a loss are declared one by one",
    "train/schedule.py learning_rate_schedule": "the settings of a schedule are declared one by one",
}

# Imports of our own modules inside functions, and why.
LATE_IMPORTS = {
    "commands/__init__.py vargfacenet.train.config": "a command that does not train starts without loading MXNet",
    "commands/doctor.py vargfacenet.errors": "doctor must run where the package's dependencies are missing",
    "commands/doctor.py vargfacenet.operators": "doctor must run where MXNet cannot be imported",
}


class Function(NamedTuple):
    """A function of the package, by the file below the package and its name in it."""

    place: str
    node: ast.FunctionDef
    is_public: bool
    parameters: list

    @property
    def is_annotated(self):
        return self.node.returns is not None and all(parameter.annotation for parameter in self.parameters)


def modules():
    """Yield path below the package and syntax tree of every module, through the links to the top-level folders."""
    for folder, _, names in os.walk(PACKAGE, followlinks=True):
        for name in sorted(names):
            if name.endswith(".py"):
                path = pathlib.Path(folder, name)
                yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree, place, owner="", is_public=True, is_method=False):
    """Yield the functions and methods below a node; functions inside functions are not public."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            public = is_public and not node.name.startswith("_")
            yield from functions(node, place, f"{owner}{node.name}.", public, True)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            is_static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
            parameters = parameters[1:] if is_method and not is_static else parameters
            parameters += [one for one in (given.vararg, given.kwarg) if one]
            is_dunder = node.name.startswith("__") and node.name.endswith("__")
            public = is_public and (is_dunder or not node.name.startswith("_"))
            yield Function(f"{place} {owner}{node.name}", node, public, parameters)
            yield from functions(node, place, f"{owner}{node.name}.", False, False)
        else:
            yield from functions(node, place, owner, is_public, is_method)


def late_imports(tree):
    """Yield the modules of this package that functions import."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                names = [node.module or "."] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                yield from (name for name in names if name.split(".")[0] in ("vargfacenet", ""))


@pytest.fixture(scope="module")
def package():
    return dict(modules())


def test_every_public_function_is_annotated(package):
    found = [function for place, tree in package.items() for function in functions(tree, place) if function.is_public]
    assert len(found) > 500  # the walk has found the package
    assert [function.place for function in found if not function.is_annotated] == []


def test_no_function_has_many_parameters_without_a_reason(package):
    every = [function for place, tree in package.items() for function in functions(tree, place)]
    assert sorted(one.place for one in every if len(one.parameters) > MOST_PARAMETERS) == sorted(MANY_PARAMETERS)


def test_no_function_imports_our_own_modules_without_a_reason(package):
    found = {f"{place} {name}" for place, tree in package.items() for name in late_imports(tree)}
    assert found == set(LATE_IMPORTS)


def test_docstrings_open_with_a_verb_or_a_noun(package):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{place}: {text.splitlines()[0]}"
        for place, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, documented) and (text := ast.get_docstring(node)) and text.split()[0] in NOT_OPENINGS
    ]
    assert found == []


def test_the_tests_that_come_first_are_there():
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []


def test_what_is_not_annotated_is_found():
    methods = "class A:\n    def f(self, a: int, *b) -> None: ...\n    def _g(self, a): ...\n"
    source = f"{methods}def h() -> int:\n    def i(a): ...\n"
    found = {one.place: (one.is_public, one.is_annotated) for one in functions(ast.parse(source), "m.py")}
    assert found == {
        "m.py A.f": (True, False),
        "m.py A._g": (False, False),
        "m.py h": (True, True),
        "m.py h.i": (False, False),
    }


def test_a_module_that_is_imported_by_two_names_has_no_second_copy_of_what_it_uses():
    """From a checkout ``import launch`` finds the folder; its modules must still be those of the package."""
    script = """
import inspect, launch, vargfacenet.launch, sys, types
import vargfacenet.launch.member
owners = {}
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ("launch", "vargfacenet"):
        for value in vars(module).values():
            if isinstance(value, types.FunctionType) and value.__module__ == name:
                code = inspect.unwrap(value).__code__  # not the wrapper's, which all context managers share
                owners.setdefault((code.co_filename, code.co_firstlineno), set()).add(name)
assert owners
print(sorted(map(sorted, (names for names in owners.values() if len(names) > 1))))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("statement", "name", "file"),
    [
        ("from vargfacenet.train.config import resolve", "resolve", "config.py"),
        ("from vargfacenet.launch.member import run_member", "run_member", "member.py"),
        ("from vargfacenet.symbols import get_symbol", "get_symbol", "__init__.py"),
    ],
)
def test_editors_find_the_definition_of_an_imported_name(statement, name, file):
    script = jedi.Script(f"{statement}\n{name}", project=jedi.Project(ROOT))
    [found] = script.goto(2, 1, follow_imports=True)
    assert found.module_path.name == file
    line = found.module_path.read_text(encoding="utf-8").splitlines()[found.line - 1]
    assert line.startswith(f"def {name}(")
