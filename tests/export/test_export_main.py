import pytest

from edge_agent.contract import signing
from edge_agent.contract.bundle import read_bundle
from edge_agent.forecaster import Model
from export.__main__ import main


def test_default_export_is_trusted_by_agents_of_the_same_user(fixed_run, tmp_path, own_keys, capsys):
    assert main([str(fixed_run), "--out", str(tmp_path / "bundle")]) == 0
    Model(read_bundle(tmp_path / "bundle")).check_golden()
    said = capsys.readouterr().out
    assert "ONNX beside Keras" in said
    assert "trusted by this user's agents" in said
    assert (own_keys / "signing.key").stat().st_mode & 0o777 == 0o600


def test_unsigned_export_makes_no_key(fixed_run, tmp_path, own_keys, capsys):
    assert main([str(fixed_run), "--out", str(tmp_path / "bundle"), "--unsigned", "--name", "mine"]) == 0
    assert not own_keys.exists()
    assert read_bundle(tmp_path / "bundle", allow_unsigned=True).manifest.name == "mine"
    assert "--allow-unsigned" in capsys.readouterr().out


def test_given_key_signs_and_int8_says_what_it_measured(anchored_run, tmp_path, own_keys, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # a narrow terminal folds the table's cells
    public = signing.create_key(tmp_path / "mine.key")
    assert main([str(anchored_run), "--out", str(tmp_path / "bundle"), "--sign-key", str(tmp_path / "mine.key"), "--int8"]) == 0
    assert read_bundle(tmp_path / "bundle", trusted=signing.trusted_keys((tmp_path,))).signer.endswith("mine.pub")
    said = capsys.readouterr().out
    assert public[:20] in said
    assert "on 30 real windows" in said


def test_one_file_is_written_where_the_name_says_so(fixed_run, tmp_path, own_keys, capsys):
    assert main([str(fixed_run), "--out", str(tmp_path / "fixed.tar")]) == 0
    assert [file.name for file in tmp_path.glob("*.tar")] == ["fixed.tar"]
    Model(read_bundle(tmp_path / "fixed.tar")).check_golden()


def test_missing_run_is_one_clear_line_and_exit_code_1(tmp_path, own_keys, capsys):
    assert main([str(tmp_path / "none"), "--out", str(tmp_path / "bundle")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "bundle").exists()


def test_bad_key_is_exit_code_2(fixed_run, tmp_path, own_keys, capsys):
    assert main([str(fixed_run), "--out", str(tmp_path / "bundle"), "--sign-key", str(tmp_path / "no.key")]) == 2
    assert "no readable signing key" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["RUN"], ["RUN", "--out", "B", "--unsigned", "--sign-key", "K"]])
def test_bad_arguments_are_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
