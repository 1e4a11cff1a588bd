from io import StringIO

import pytest
from rich.console import Console

from edge_agent.contract.errors import ConfigError, DataError
from trainer.homes import Home, Sources, files_by_house, read_homes, split_homes, survey

QUIET = Console(quiet=True)


def homes(n, *, partial=()):
    return [Home(f"home{i}", None, None, "meter", None, is_whole=i not in partial) for i in range(n)]


def test_every_energy_target_is_a_home_called_energy(small_run):
    (home,) = read_homes(Sources((small_run[0],), (small_run[1],)), QUIET)
    assert (home.name, home.house.targets[0].name, home.series.names[0]) == ("small:energy", "energy", "meter")
    assert home.temperature.shape == (len(home.series),)


def test_what_the_share_leaves_out_is_not_read(small_run):
    (home,) = read_homes(Sources((small_run[0],), (small_run[1],), (0.5,)), QUIET)
    assert len(home.series) == len(home.temperature) == 24 * 40
    assert not home.is_whole


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_out_of_range_is_refused(small_run, share):
    with pytest.raises(ConfigError, match="--train-share"):
        read_homes(Sources((small_run[0],), (small_run[1],), (share,)), QUIET)


def test_houses_and_files_pair_up(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    assert files_by_house(Sources((a,), (b, c))) == [[b, c]]
    assert files_by_house(Sources((a, b), (b, c))) == [[b], [c]]
    with pytest.raises(ConfigError, match="one file for each"):
        files_by_house(Sources((a, b), (c,)))


def test_two_houses_of_one_name_are_refused(small_run):
    with pytest.raises(ConfigError, match="two homes are called 'small:energy'"):
        read_homes(Sources((small_run[0],) * 2, (small_run[1],) * 2), QUIET)


@pytest.fixture
def spoilt(small_run, tmp_path):
    """`spoilt(site, change)`: paths of the small house under another name, with changed lines of its table."""

    def make(site, change):
        text = small_run[0].read_text().replace('site = "small"', f'site = "{site}"')
        (tmp_path / f"{site}.toml").write_text(text)
        head, *rows = small_run[1].read_text().splitlines()
        (tmp_path / f"{site}.csv").write_text("\n".join([head, *change(rows)]) + "\n")
        return tmp_path / f"{site}.toml", tmp_path / f"{site}.csv"

    return make


def zeros(rows):
    return [f"{time},0,{rest}" for time, _, rest in (row.split(",", 2) for row in rows)]


def test_a_home_that_cannot_be_used_is_left_out_and_named(small_run, spoilt):
    houses = [
        small_run,
        spoilt("empty", zeros),
        spoilt("unsorted", lambda rows: [rows[1], rows[0], *rows[2:]]),
        spoilt("wordy", lambda rows: [rows[0].replace(",", ",?", 1), *rows[1:]]),
        spoilt("young", lambda rows: rows[: 24 * 20]),
        spoilt("dead", lambda rows: [*rows[:1000], *zeros(rows[1000:1100]), *rows[1100:]]),
    ]
    console = Console(record=True, file=StringIO(), width=100)
    found = survey(Sources(*zip(*houses, strict=True)), console)
    assert [home.name for home in found.homes] == ["small:energy", "dead:energy"]
    told = {(one.source, one.kind, one.done) for one in found.findings}
    assert told == {
        ("empty", "empty", "refused"),
        ("unsorted", "table", "refused"),
        ("wordy", "column", "refused"),
        ("young", "short", "refused"),
        ("dead", "dead", "masked"),
    }
    text = console.export_text()
    for said in ("empty:meter: 0 in 100% of all known steps", "unsorted: ", "wordy:meter: column 'use' has 1 text", "young:meter: known for 20 days"):
        assert f"left out: {said}" in text
    assert "histories of 6 homes checked" in text


def test_under_repair_what_can_be_mended_is_not_left_out(small_run, spoilt):
    house = spoilt("unsorted", lambda rows: [rows[1], rows[0], *rows[2:]])
    found = survey(Sources((house[0],), (house[1],), repair=True), QUIET)
    assert [home.name for home in found.homes] == ["unsorted:energy"]
    assert [(one.kind, one.done) for one in found.findings] == [("order", "repaired")]


def test_every_home_has_one_part_to_play():
    every = homes(40)
    split = split_homes(every, seed=3)
    assert [len(part) for part in vars(split).values()] == [34, 3, 3]
    assert {home.name for part in vars(split).values() for home in part} == {home.name for home in every}


def test_the_seed_chooses_the_homes_set_aside():
    chosen = [[home.name for home in split_homes(homes(40), seed=seed).stopping] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_home_with_a_span_of_its_own_is_trained_on():
    for seed in range(20):
        split = split_homes(homes(4, partial=(0,)), seed=seed)
        assert "home0" in {home.name for home in split.train}


@pytest.mark.parametrize(("n", "partial"), [(2, ()), (4, (0, 1, 2))])
def test_too_few_homes_are_refused(n, partial):
    with pytest.raises(DataError, match="at least 3 homes"):
        split_homes(homes(n, partial=partial), seed=0)


def test_further_homes_are_trained_on_as_they_are_and_never_set_aside(small_run, tmp_path):
    text = small_run[0].read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(text.replace('"small"', f'"{name}"'))
        (tmp_path / f"{name}.csv").write_bytes(small_run[1].read_bytes())
    every = read_homes(Sources((small_run[0],), (small_run[1],), extra=tmp_path), QUIET)
    assert [(home.name, home.is_whole, home.is_changed) for home in every] == [
        ("small:energy", True, True),
        ("one:energy", False, False),
        ("two:energy", False, False),
    ]


def test_a_further_home_without_a_table_is_named(small_run, tmp_path):
    (tmp_path / "one.toml").write_bytes(small_run[0].read_bytes())
    with pytest.raises(ConfigError, match=r"one\.toml has no table"):
        read_homes(Sources((small_run[0],), (small_run[1],), extra=tmp_path), QUIET)
