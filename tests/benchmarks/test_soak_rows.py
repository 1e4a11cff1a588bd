"""The proofs' frame: a failed row ends the command with 1, and what one run measured stays when the next runs another proof."""

import sys
from types import SimpleNamespace

import pytest

from benchmarks.soak import __main__ as command
from benchmarks.soak.row import Row, read


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command over two made-up proofs, of which `second` fails."""

    def proof(name, passed):
        return SimpleNamespace(TITLE=f"{name}'s title", prove=lambda *, quick, progress: [Row("kills", "0 lost", f"{1 - passed} lost", passed)])

    proofs = {"benchmarks.soak.first": proof("first", True), "benchmarks.soak.second": proof("second", False)}
    monkeypatch.setattr(command, "PROOFS", ("first", "second"))
    monkeypatch.setattr(command, "import_module", proofs.__getitem__)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["soak", "--out", str(tmp_path / "SOAK.md"), *arguments])
        return command.main()

    return run


def test_a_failed_row_ends_with_one_and_is_written(run, tmp_path):
    assert run() == 1
    assert "| kills | 0 lost | 1 lost | **no** |" in (tmp_path / "SOAK.md").read_text()
    assert [o.title for o in read(tmp_path / "SOAK.md").values()] == ["first's title", "second's title"]


def test_a_run_of_one_proof_leaves_the_others_rows(run, tmp_path):
    run("--only", "second")
    assert run("--only", "first") == 0
    assert [row.measured for o in read(tmp_path / "SOAK.md").values() for row in o.rows] == ["0 lost", "1 lost"]


def test_a_quick_run_writes_nothing(run, tmp_path):
    assert run("--quick", "--only", "first") == 0
    assert not (tmp_path / "SOAK.md").exists()
