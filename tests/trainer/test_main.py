import subprocess
import sys

import pytest

from trainer.__main__ import main

LAZY = """
import sys
from trainer.__main__ import main
try:
    code = main({argv!r})
except SystemExit as stop:
    code = stop.code
loaded = [name for name in ("keras", "tensorflow", "mlflow", "pandas", "matplotlib") if name in sys.modules]
print(code, loaded)
"""


def wanted(small_run, tmp_path):
    return ["fit", "--house", str(small_run[0]), "--data", str(small_run[1]), "--out", str(tmp_path / "run")]


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["fit", "--help"], 0), (["--help"], 0), (["fit"], 2), (["fit", "--house", "a", "--data", "b", "--out", "c", "--preset", "sed"], 2)],
)
def test_help_and_mistakes_load_nothing_heavy(argv, code):
    done = subprocess.run([sys.executable, "-c", LAZY.format(argv=argv)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{code} []"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--preset", "finetune", "--units", "8"], "--units is decided by the model that preset finetune starts from"),
        (["--preset", "bass"], "did you mean 'base'?"),
        (["--init", "x"], "--init is for preset finetune"),
        (["--target", "enrgy"], "did you mean 'energy'?"),
        (["--covariates", "nothing"], "--covariates"),
        (["--epochs", "0"], "--epochs 0"),
        (["--house", "no.toml"], "no.toml: cannot be read"),
        (["--data", "no.csv"], "--data no.csv: there is no such file"),
        (["--train-share", "0.5"], "--train-share: only for one model over many homes"),
        (["--augment", "0", "--resolutions", "17"], "--resolutions --augment: only for"),
        (["--preset", "finetune", "--extra", "no", "--per-day", "2"], "--per-day --extra: only for"),
        (["--role", "indoor_temperature", "--augment", "3"], "--augment: only for"),
        (["--all-targets", "--stride-s", "3600"], "--stride-s: of many homes windows are drawn at random"),
        (["--seed", "-1"], "--seed -1: a whole number from 0 to 4294967295"),
        (["--seed", "99999999999"], "--seed 99999999999"),
        (["--learning-rate", "nan"], "--learning-rate nan: a number above 0"),
        (["--role", "indoor_temperature", "--all-targets"], "--role makes one model of preset base of all rooms of one house: leave out"),
    ],
)
def test_bad_arguments_end_with_2_and_say_what_to_do(small_run, tmp_path, capsys, extra, said):
    assert main([*wanted(small_run, tmp_path), *extra]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ctrl_c_while_libraries_load_ends_with_a_line(monkeypatch, capsys):
    def press(_argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.__main__.parse", press)
    assert main(["fit"]) == 1
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_unknown_command_is_refused():
    with pytest.raises(SystemExit) as stop:
        main(["fti"])
    assert stop.value.code == 2
