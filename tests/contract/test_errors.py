"""closest() turns a typing error into advice."""

import pytest

from edge_agent.contract import errors


@pytest.mark.parametrize(
    ("word", "valid", "advice"),
    [
        ("Kwh", ("kWh", "W"), "did you mean 'kWh'?"),
        ("rol", ("role", "unit"), "did you mean 'role'?"),
        ("xyz", ("unit", "role"), "one of role, unit is expected"),
    ],
)
def test_closest_names_the_word_meant_or_all_of_them(word, valid, advice):
    assert errors.closest(word, valid) == advice


def test_every_error_has_one_root_and_bad_configuration_exits_with_two():
    leaves = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(leaf, errors.HearthcastError) for leaf in leaves)
    assert {leaf.__name__ for leaf in leaves if leaf.exit_code == 2} == {"ConfigError"}
