"""Which rows of our own the table has: `rows.toml`, read strictly, and what the command line puts in its place."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy.bundles import BundleMethod, Recipe, bundle_of
from edge_agent.contract.bundle import shipped_bundle
from edge_agent.contract.errors import ConfigError, closest

ZERO_SHOT = "Hearthcast, zero-shot"
FINE_TUNED = "Hearthcast, fine-tuned"
SHIPPED = "shipped"
KEYS = ("seeds", "bundles", "recipes")
BUNDLE_KEYS = ("label", "kind", "homes", "paths")


@dataclass(frozen=True)
class Bundles:
    """A row of bundles that are there, one for each seed."""

    label: str
    paths: tuple[str, ...]
    homes: tuple[str, ...] = ()
    kind: str = "hearthcast"


@dataclass(frozen=True)
class Rows:
    """All rows of our own, in the order of the table."""

    bundles: tuple[Bundles, ...]
    recipes: tuple[Recipe, ...]


def read_rows(path: Path) -> Rows:
    """The rows that a file describes.

    Raises:
        ConfigError: unreadable, or a key that is not known.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err})") from err
    _check(path, data, KEYS)
    for table in data.get("bundles", []):
        _check(path, table, BUNDLE_KEYS)
    recipe_keys = [f.name for f in fields(Recipe)]
    for table in data.get("recipes", []):
        _check(path, table, recipe_keys)
    seeds = tuple(data.get("seeds", (0, 1, 2)))
    bundles = tuple(Bundles(**_tuples(table)) for table in data.get("bundles", []))
    recipes = tuple(Recipe(**{"seeds": seeds, "homes": (), **_tuples(table)}) for table in data.get("recipes", []))
    return Rows(bundles, recipes)


def _check(path: Path, table: dict[str, Any], keys: Sequence[str]) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{path}: unknown key {key!r}: {closest(key, keys)}")


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def replaced(rows: Rows, bundles: Sequence[Bundles]) -> Rows:
    """The rows with `bundles` first, instead of all rows with their labels."""
    labels = {row.label for row in bundles}
    return Rows(
        (*bundles, *(row for row in rows.bundles if row.label not in labels)),
        tuple(recipe for recipe in rows.recipes if recipe.label not in labels),
    )


def methods_of(rows: Rows, *, houses: Path, build: Path, train: bool, console: Console) -> list[BundleMethod]:
    """The bundles of all rows; those not trained yet are trained, or, without `train`, named and left out."""
    out = [
        BundleMethod(row.label, _path(text, build), row.homes, seed if len(row.paths) > 1 else None, row.kind)
        for row in rows.bundles
        for seed, text in enumerate(row.paths)
    ]
    by_label = {recipe.label: recipe for recipe in rows.recipes}
    made: dict[tuple[str, int], Path] = {(m.label, m.seed or 0): m.bundle for m in out}
    for recipe in rows.recipes:
        if recipe.init is not None and recipe.init not in by_label and (recipe.init, 0) not in made:
            raise ConfigError(f"recipe {recipe.label!r} starts from {recipe.init!r}: {closest(recipe.init, [*by_label, *(k[0] for k in made)])}")
        for seed in recipe.seeds:
            out += _of_seed(recipe, seed, made, houses=houses, build=build, train=train, console=console)
    return out


def _of_seed(
    recipe: Recipe, seed: int, made: dict[tuple[str, int], Path], *, houses: Path, build: Path, train: bool, console: Console
) -> list[BundleMethod]:
    init = None if recipe.init is None else made.get((recipe.init, seed)) or made.get((recipe.init, 0))
    if recipe.init is not None and init is None:
        return []
    out = []
    for home in recipe.homes if recipe.for_each_home else ("",):
        if train:
            console.print(f"{recipe.label}, seed {seed}{f', {home}' if home else ''} …")
        bundle = recipe.bundle(seed, home, houses=houses, runs=build / "runs", init=init, train=train)
        if bundle is None:
            console.print(f"{recipe.label}, seed {seed}{f', {home}' if home else ''}: not trained yet (--train does it)")
            continue
        made[recipe.label, seed] = bundle
        out.append(BundleMethod(recipe.label, bundle, (home,) if home else recipe.homes, seed, recipe.kind))
    return out


def _path(text: str, build: Path) -> Path:
    if text != SHIPPED:
        return bundle_of(Path(text), build / "exported")
    found = shipped_bundle()
    if found is None:
        raise ConfigError("no base model ships with this checkout: name bundles with --bundles")
    return found
