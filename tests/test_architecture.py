"""The house rules that can be read off the source: floors, oracles, sizes, and what an import pulls in."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "funcnet"

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
FLOORS = {
    name: int(floor) for floor, name in re.findall(r"^\| (\d+) \| `funcnet/(\w+)[./]", ARCHITECTURE, re.MULTILINE)
}
"""A file imports only from lower floors; a folder is one floor, and its files may import each other."""

ORACLES = {"grad", "value_and_grad", "vjp", "jvp", "hessian", "jacfwd", "jacrev", "linearize", "linear_transpose"}
ORACLE_FILES = set((PACKAGE / "checking").glob("*.py"))
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
LINES, FUNCTION_LINES = 300, 40


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "funcnet":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("funcnet") for alias in node.names), f"{path}: import from funcnet"


def autodiff(tree):
    """Names of JAX's autodiff that a file uses, however it imports them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ORACLES and isinstance(node.value, ast.Name):
            if node.value.id in ("jax", "api", "ad"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jax"):
            yield from (alias.name for alias in node.names if alias.name in ORACLES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_come_from_lower_floors(path):
    own = module_of(path)
    for imported in imports(path):
        assert imported == own or FLOORS[imported] < FLOORS[own], f"{own} must not import {imported}"


@pytest.mark.parametrize("path", SOURCES + SCRIPTS, ids=lambda path: path.name)
def test_autodiff_is_an_oracle_never_the_implementation(path):
    if path not in ORACLE_FILES:
        assert list(autodiff(ast.parse(path.read_text()))) == []


def test_every_module_has_its_floor():
    assert set(FLOORS) == {module_of(path) for path in SOURCES}


def test_the_search_for_autodiff_finds_it():
    assert list(autodiff(ast.parse("import jax\njax.grad(f)"))) == ["grad"]
    assert list(autodiff(ast.parse("from jax import vjp as v"))) == ["vjp"]
    assert list(autodiff(ast.parse((PACKAGE / "checking" / "oracle.py").read_text()))) == ["value_and_grad"]


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS, *(ROOT / "benchmarks").glob("*.py")], ids=lambda path: path.name)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno + 1 - docstring <= FUNCTION_LINES, node.name


DERIVATIVES = ("_slope", "_curvature", "_third", "_gradient", "_hessian_action", "_hessian_factor")
CLOSED_FORMS = {
    "affine_backward",
    "backward",
    "both_sweeps",
    "chunked_gradient",
    "closed_form_loss",
    "gradient",
    "input_gradient",
    "parameter_gradient",
    "row_gradient",
    "second_pass",
    "value_and_grad",
}


def test_every_closed_form_has_its_derivation():
    found = set()
    for path in (path for path in SOURCES if module_of(path) not in ("checking", "verification")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (node.name.endswith(DERIVATIVES) or node.name in CLOSED_FORMS):
                assert "Derivation:" in (ast.get_docstring(node) or ""), f"{path.name}: {node.name}"
                found.add(node.name)
    assert found >= CLOSED_FORMS
    assert len(found) > len(CLOSED_FORMS) + 40


def test_importing_funcnet_pulls_in_the_core_alone():
    extras = ("sklearn", "matplotlib", "rich", "tyro", "safetensors", "mpmath", "beartype", "pytest", "pandas", "torch")
    extras += ("onnx", "onnxruntime", "flax", "equinox")
    code = f"import sys, funcnet, funcnet.interchange; print([name for name in {extras!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_funcnet_leaves_the_configuration_of_jax():
    code = "import jax; old = dict(jax.config.values); import funcnet; assert dict(jax.config.values) == old"
    subprocess.run([sys.executable, "-c", code], check=True)
