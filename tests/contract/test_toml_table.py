"""TOML tables are read strictly."""

import pytest

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.toml_table import TableReader


def test_a_table_takes_typed_values_and_complains_about_the_rest():
    table = TableReader({"port": 1883, "tls": True, "ratio": 2, "names": ["a", "b"], "prot": 1}, source="agent.toml", where="[mqtt] ")
    assert (table.integer("port"), table.flag("tls", default=False), table.number("ratio"), table.texts("names")) == (1883, True, 2.0, ("a", "b"))
    with pytest.raises(ConfigError, match=r"agent\.toml: \[mqtt\] key 'prot': unknown key: did you mean 'port'\?"):
        table.done()


@pytest.mark.parametrize(
    ("take", "problem"),
    [
        (lambda t: t.number("x"), "a finite number"),
        (lambda t: t.texts("y"), "a list of texts"),
        (lambda t: t.flag("y", default=True), "true or false"),
        (lambda t: t.table("y"), r"a \[y\] table"),
    ],
)
def test_a_table_refuses_values_of_other_kinds(take, problem):
    with pytest.raises(ConfigError, match=problem):
        take(TableReader({"x": float("inf"), "y": [1]}, source="f", where=""))
