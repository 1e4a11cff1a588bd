import pytest

from edge_agent.contract.errors import ConfigError
from trainer.__main__ import main
from trainer.outputs import require_place, staging


@pytest.mark.parametrize("name", [".", "new", "new/er"])
def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path, name):
    require_place(tmp_path / name, option="--out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/run", "new/" + 300 * "n"])
def test_a_place_that_cannot_be_made_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--out .* cannot be made or written"):
        require_place(tmp_path / name, option="--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", [["fit"], ["fit", "--preset", "finetune"], ["fit", "--all-targets"], ["tune"], ["fleet", "gather"]])
def test_an_out_that_cannot_be_made_is_refused_before_the_data_are_read(small_run, tmp_path, capsys, command):
    data = tmp_path / "no-table.csv"
    data.touch()
    assert main([*command, "--house", str(small_run[0]), "--data", str(data), "--out", str(data / "run")]) == 2
    assert f"--out {data / 'run'}: cannot be made or written (Not a directory)" in capsys.readouterr().err


def test_what_others_put_into_a_new_place_stays(tmp_path):
    with staging(tmp_path / "new", option="--predictions") as partial:
        (partial / "half").touch()
        (tmp_path / "new" / "theirs").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["theirs"]
