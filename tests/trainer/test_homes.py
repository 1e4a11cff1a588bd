import pytest
from rich.console import Console

from edge_agent.contract.errors import ConfigError, DataError
from trainer.homes import Home, Sources, files_by_house, read_homes, split_homes

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
