import sys

from rich.console import Console

from demo.neighbours import main
from trainer.homes import Sources, extra_homes, read_homes


def test_simulated_homes_can_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["neighbours", str(tmp_path), "--homes", "2", "--days", "21"])
    main()
    assert [house.stem for house, _ in extra_homes(tmp_path)] == ["home_1000", "home_1001"]
    house, table = extra_homes(tmp_path)[0]
    (home,) = read_homes(Sources((house,), (table,)), Console(quiet=True))
    assert (home.name, home.series.step_s, len(home.series)) == ("home_1000:energy", 600, 21 * 144)
    assert "outdoor_temperature" in home.series.names
