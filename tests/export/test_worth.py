"""Nothing ships whose own scores say that the gateway is better off without it."""

import make_tiny_bundle as tiny
import pytest

from edge_agent.contract.errors import ExportError
from export.__main__ import main
from export.worth import check_worth


def table(model, climatology=10.0, **others):
    rows = {"model": model, "rolling climatology": climatology, **others}
    return {name: {"crps": crps, "mae": crps} for name, crps in rows.items()}


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"test": table(12.5)}, "on the test span the model's CRPS is 25.0% worse than the rolling climatology's"),
        ({"test": table(9.0, base=8.0)}, "12.5% worse than the base's"),
        ({"validation": table(9.0), "test": table(11.0)}, "test span"),
        ({"validation 30 min": table(9.0), "validation 60 min": table(10.1)}, "on the validation 60 min span"),
    ],
)
def test_a_model_that_is_worse_is_refused(scores, said):
    with pytest.raises(ExportError, match=said):
        check_worth(scores, source="run")


@pytest.mark.parametrize(
    "scores", [{"test": table(9.9)}, {"test": table(10.0)}, {"validation": table(11.0), "test": table(9.0, base=9.0)}, {"skill": 0.0}, {}]
)
def test_a_model_that_is_not_worse_may_go(scores):
    check_worth(scores, source="run")


def test_the_command_wants_a_flag_for_a_worse_model(own_keys, tmp_path, capsys):
    plan = tiny.tiny_plan()
    run = tiny.write_run(tmp_path / "run", tiny.tiny_model(plan), plan, scores={"test": table(12.5)})
    assert main([str(run), "--out", str(tmp_path / "bundle")]) == 1
    assert "--even-if-worse" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
    assert main([str(run), "--out", str(tmp_path / "bundle"), "--even-if-worse"]) == 0
    assert (tmp_path / "bundle" / "manifest.json").is_file()
