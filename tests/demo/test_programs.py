import os
import pty
import subprocess
import sys
import termios

import pytest

from demo.programs import Agent, run_program
from edge_agent.contract.errors import ServiceError

ONCE = ("-n", "1", "-r", "1")


def test_output_goes_to_the_terminal_and_to_the_log(tmp_path, capfd):
    (tmp_path / "table.json").write_text('{"answer": 42}')
    run_program("json.tool", [tmp_path / "table.json"], log=tmp_path / "tool.log", environment={})
    assert '"answer": 42' in capfd.readouterr().out
    assert '"answer": 42' in (tmp_path / "tool.log").read_text()


def test_failure_names_the_program_its_exit_code_and_the_log(tmp_path):
    with pytest.raises(ServiceError, match=r"json\.tool .* exit code \d+: .*tool\.log"):
        run_program("json.tool", [tmp_path / "missing.json"], log=tmp_path / "tool.log", environment={})
    assert "missing.json" in (tmp_path / "tool.log").read_text()


def test_program_sees_its_environment(tmp_path, capfd):
    run_program("timeit", [*ONCE, "import os; print(os.environ['ANSWER'])"], log=tmp_path / "tool.log", environment={"ANSWER": "42"})
    assert capfd.readouterr().out.startswith("42")


def test_program_shown_on_a_terminal_sees_one_of_the_same_size(tmp_path):
    inner = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"
    call = f"run_program('timeit', {[*ONCE, inner]!r}, log=Path('tool.log'), environment={{}})"
    outer = f"from pathlib import Path; from demo.programs import run_program; {call}"
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 133))
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=theirs, cwd=tmp_path)
    assert process.wait() == 0
    assert os.read(ours, 1000).startswith(b"True 133")  # all of it is there now
    os.close(ours)
    os.close(theirs)


def test_agent_that_cannot_start_is_reported_with_its_last_words(tmp_path):
    agent = Agent(["--house", tmp_path / "missing.toml"], log=tmp_path / "agent.log", environment={})
    agent.process.wait(60)
    with pytest.raises(ServiceError, match=r"exit code 2 \(error: .*missing\.toml"):
        agent.check()
    agent.stop()  # there is nothing to stop any more
