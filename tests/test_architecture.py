"""Which room may import what, where the heavy libraries are met, and that nothing runs at import. The arrows are drawn in CONTRIBUTING.md."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("edge_agent", "trainer", "export", "demo")
EDGE_LIBRARIES = {"numpy", "onnxruntime", "paho", "cryptography", "systemd_watchdog"}
HEAVY = ("pandas", "tensorflow", "keras", "mlflow", "onnx", "matplotlib", "rich", "tf2onnx", "torch", "jax", "sklearn", "amqtt")
"""Never loaded on a gateway."""
IMPORTERS = {
    "paho": {"edge_agent/mqtt.py", "demo/replay.py"},
    "onnxruntime": {"edge_agent/forecaster.py", "export/quantize.py"},
    "cryptography": {"edge_agent/contract/signing.py"},
    "systemd_watchdog": {"edge_agent/systemd.py"},
    "mlflow": {"trainer/tracking.py", "trainer/pyfunc.py"},
    "tf2onnx": {"export/convert.py"},
    "pyspark": {"trainer/fleet.py"},
    "optuna": {"trainer/study.py"},
    "amqtt": {"demo/broker.py"},
}
RUNS_A_BUNDLE = {"trainer/backtest.py", "trainer/backtest_plan.py", "trainer/rolling.py", "trainer/workers.py"}
"""Files of the trainer that may use the agent's own forecaster."""
RUN_AT_IMPORT = {"trainer/pyfunc.py": "set_model(HouseForecaster())"}  # how MLflow finds a model that is code
HARMLESS = {"logging.getLogger", "frozenset", "object", "bool", "len", "range", "field", "re.compile"}
"""Functions whose calls make constants; classes and a module's own private functions may be called for the same end."""


def sources(*rooms):
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def label(path):
    return path.relative_to(ROOT).as_posix()


def imports(source):
    """Dotted names that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def strangers(source, *allowed):
    """Imports that are neither of the standard library nor below one of `allowed`."""
    names = {*sys.stdlib_module_names, *allowed}
    return sorted(name for name in imports(source) if not any(name == known or name.startswith(f"{known}.") for known in names))


def test_strangers_are_found():
    source = "import os.path\nimport numpy as np\nfrom edge_agent.contract.units import UNITS\n\ndef f():\n    from pandas import DataFrame\n"
    assert strangers(source, "numpy") == ["edge_agent.contract.units.UNITS", "pandas.DataFrame"]
    assert strangers(source, "numpy", "edge_agent.contract", "pandas") == []


@pytest.mark.parametrize("path", sources("edge_agent"), ids=label)
def test_the_edge_imports_nobody(path):
    in_contract = "contract" in path.parts
    signing = {"cryptography"} if path.name == "signing.py" else set()
    allowed = {"numpy", "edge_agent.contract", *signing} if in_contract else {*EDGE_LIBRARIES, "edge_agent"}
    assert strangers(path.read_text(), *allowed) == []


@pytest.mark.parametrize("path", sources("trainer", "export"), ids=label)
def test_trainer_and_exporter_import_the_contract_and_never_each_other(path):
    room = label(path).split("/")[0]
    allowed = {room, "edge_agent.contract", "edge_agent.__version__"}
    if room == "export" or label(path) in RUNS_A_BUNDLE:
        allowed.add("edge_agent.forecaster")
    ours = {name for name in imports(path.read_text()) if name.split(".")[0] in (*ROOMS, "benchmarks", "tests")}
    assert [name for name in sorted(ours) if strangers(f"import {name}", *allowed)] == []


def test_nobody_imports_the_demo_the_benchmarks_or_the_tests():
    found = {label(path): list(imports(path.read_text())) for path in sources("edge_agent", "trainer", "export")}
    assert [p for p, names in found.items() for name in names if name.split(".")[0] in ("demo", "benchmarks", "tests")] == []


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_heavy_library_has_one_importer(library):
    found = {label(path) for path in sources(*ROOMS) if library in {name.split(".")[0] for name in imports(path.read_text())}}
    assert found <= IMPORTERS[library]
    assert found, "nobody needs it any more: strike it off the list"


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[2:])))
"""


def loaded_by(package, *libraries):
    """Which of `libraries` a fresh interpreter has loaded after importing every module of `package`."""
    run = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING, package, *libraries], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_importing_the_agent_loads_nothing_heavy():
    assert loaded_by("edge_agent", *HEAVY, "numpy", "onnxruntime") == ["numpy", "onnxruntime"]


def test_importing_the_contract_loads_numpy_alone():
    assert loaded_by("edge_agent.contract", *HEAVY, *EDGE_LIBRARIES) == ["numpy"]


def runs_at_import(source):
    """Statements that do more at import than name things."""
    tree = ast.parse(source)
    private = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("_")}
    return [ast.unparse(node) for node in _top_level(tree.body) if not _only_names(node, private)]


def _top_level(body):
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _top_level(node.body)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING")):
            yield node


def _only_names(node, private):
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.Pass)):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and all(
        _makes_a_constant(n.func, private) for n in ast.walk(node) if isinstance(n, ast.Call)
    )


def _makes_a_constant(function, private):
    name = ast.unparse(function)
    return name in HARMLESS or name in private or name.startswith("Path(") or name.rpartition(".")[2][0].isupper()


@pytest.mark.parametrize(
    "source",
    [
        "main()",
        "x = open('f')",
        "for i in range(3):\n    pass",
        "with a:\n    pass",
        "if DEBUG:\n    x = 1",
        "class A:\n    main()",
        "x = [load(p) for p in P]",
    ],
)
def test_running_at_import_is_found(source):
    assert runs_at_import(source)


@pytest.mark.parametrize(
    "source",
    [
        "'doc'",
        "X: Final = frozenset('ab')",
        "def f():\n    main()",
        "if __name__ == '__main__':\n    main()",
        "def _t():\n    return 1\nX = _t()",
        "Y = Role(1, a=[2])",
    ],
)
def test_naming_things_is_not_running(source):
    assert not runs_at_import(source)


@pytest.mark.parametrize("path", sources(*ROOMS), ids=label)
def test_nothing_runs_at_import(path):
    found = runs_at_import(path.read_text())
    assert [statement for statement in found if statement != RUN_AT_IMPORT.get(label(path))] == []


def tracked_files():
    """Files that git has or would take; none in a copy without git."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its folder: only a checkout knows which files are its own")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


HOSTS = ("py" + "pi", "npm" + "js", "deb" + ".debian", "files.python" + "hosted")
FORBIDDEN = ("/" + "work/", "/" + "tmp/bash", "../" + "shared", *(f"{host}.org" for host in HOSTS))
"""Paths of one machine and addresses of package registries: the project must build anywhere, also behind a mirror."""


def test_no_file_names_a_workplace_or_a_registry():
    found = {label(path): [word for word in FORBIDDEN if word.encode() in path.read_bytes()] for path in tracked_files()}
    assert {name: words for name, words in found.items() if words} == {}
