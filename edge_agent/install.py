"""A bundle, from a file or from the air, into the model store: everything is checked before anything changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_agent.contract import archive, signing
from edge_agent.contract.bundle import Bundle, open_bundle, read_files
from edge_agent.contract.errors import BundleError, ConfigError, closest
from edge_agent.contract.schema import HouseSpec
from edge_agent.download import Partial, download, partial_of
from edge_agent.standing import DAYS, Standing
from edge_agent.store import ModelStore
from edge_agent.trial import Trial, try_out

DOWNLOADS = "downloads"


@dataclass(frozen=True)
class Wishes:
    """What the owner of the gateway says on top of the bundle."""

    target: str | None = None
    """None: the one that the bundle is for."""
    days: int = DAYS
    """To forecast in shadow; 0: the model is current at once."""
    allow_unsigned: bool = False
    allow_downgrade: bool = False
    any_house: bool = False


def install(
    source: str,
    *,
    house: HouseSpec,
    house_text: str,
    store: ModelStore,
    wishes: Wishes,
    trial: Callable[..., Trial] = try_out,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Install the bundle at `source`, a folder, an archive or an https address; yields what was found and done, in words.

    Raises:
        HearthcastError: refused, with the reason; nothing has changed.
    """
    partial: Partial | None = None
    path = Path(source)
    if "://" in source:
        partial = partial_of(source, store.path.parent / DOWNLOADS)
        yield from download(source, partial.path.parent, limit=archive.MAX_BYTES)
        path = partial.path
    try:
        files = read_files(path)
        bundle = open_bundle(
            path if partial is None else Path(Path(source).name), files, trusted=trusted_keys(store), allow_unsigned=wishes.allow_unsigned
        )
        yield _identity(bundle)
        target = target_for(bundle, house, wishes)
        check_house(bundle, house, wishes)
        with store.locked():
            standing = store.standing(target)
            if is_installed(bundle, standing, wishes):
                yield f"{bundle.manifest.id} is installed for {target} already: nothing to do"
                return
            check_standing(bundle, standing, wishes, target=target)
            found = trial(bundle, files, house_text=house_text, target=target)
            yield f"golden sample reproduced; a forecast of this house takes {1e3 * found.seconds:.0f} ms, the model {found.growth_mb:.0f} MB"
            after = _after(bundle, standing, wishes, now=int(clock()))
            store.add(target, bundle.manifest.id, files)
            store.save(target, after)
        yield _outcome(target, after)
    finally:
        if partial is not None:  # installed or refused: worth nothing any more
            partial.remove()


def _identity(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"{manifest.name} {manifest.version} ({manifest.id}), {f'signed: {bundle.signer}' if bundle.signer else 'signed by nobody you trust'}"


def trusted_keys(store: ModelStore) -> dict[bytes, str]:
    """Keys of whoever will run the model: the service does not see those of the user who installs."""
    return signing.trusted_keys((signing.SYSTEM_KEYS,) if store.is_anothers else None)


def target_for(bundle: Bundle, house: HouseSpec, wishes: Wishes) -> str:
    """The target of `house` that the bundle is to forecast.

    Raises:
        BundleError: there is none.
        ConfigError: there are several, or the house has none of the wished name.
    """
    plan = bundle.manifest.plan
    names = [target.name for target in house.targets]
    fitting = [
        target.name for target in house.targets if house.sensor(target.sensor).role == plan.role and (plan.is_general or target.name == plan.target)
    ]
    if wishes.target is not None and wishes.target not in names:
        raise ConfigError(f"--target {wishes.target}: house {house.site!r} has no such target: {closest(wishes.target, names)}")
    wished = [name for name in fitting if name == (wishes.target or plan.target)] or ([] if wishes.target else fitting)
    if not wished:
        what = f"{plan.target!r} ({plan.role})" if plan.is_general else f"{plan.target!r} and no other target"
        raise BundleError(f"{bundle.path} forecasts {what}, house {house.site!r} has {', '.join(names)}: use a bundle that was made for it")
    if len(wished) > 1:
        raise ConfigError(f"{bundle.path} can forecast {' or '.join(wished)}: say which with --target")
    return wished[0]


def check_house(bundle: Bundle, house: HouseSpec, wishes: Wishes) -> None:
    """A model of one house alone serves that house.

    Raises:
        BundleError: it is another one.
    """
    houses = bundle.manifest.training.get("houses")
    if not wishes.any_house and isinstance(houses, list) and len(houses) == 1 and houses != [house.site]:
        raise BundleError(f"{bundle.path} was trained for house {houses[0]!r}, this is {house.site!r}: use its own, or --any-house if that is meant")


def is_installed(bundle: Bundle, standing: Standing, wishes: Wishes) -> bool:
    """Whether there is nothing to do."""
    model, shadow = bundle.manifest.id, standing.shadow
    return model == standing.current or (wishes.days > 0 and shadow is not None and model == shadow.model)


def check_standing(bundle: Bundle, standing: Standing, wishes: Wishes, *, target: str) -> None:
    """Who records an old signed bundle must not be able to bring its faults back; and what is pinned stays.

    Raises:
        BundleError: it is older than one that was installed before, or does not say when it was made.
        ConfigError: it is to be current at once, and another one is pinned.
    """
    if standing.pinned and wishes.days == 0:
        raise ConfigError(f"{standing.current} is pinned for {target}: let it go first, hearthcast-agent models unpin {target}")
    made, newest = _time(bundle.manifest.created_at), _time(standing.newest)
    if made is None:
        raise BundleError(f"{bundle.path} does not say when it was made ({bundle.manifest.created_at!r}): export it again")
    if newest is not None and made < newest and not wishes.allow_downgrade:
        older = f"was made {bundle.manifest.created_at}, before one that was installed ({standing.newest})"
        raise BundleError(f"{bundle.path} {older}: use a newer one, or --allow-downgrade if that is meant")


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None


def _after(bundle: Bundle, standing: Standing, wishes: Wishes, *, now: int) -> Standing:
    manifest = bundle.manifest
    return standing.with_installed(manifest.id, created_at=manifest.created_at, now=now, days=wishes.days, is_unsigned=bundle.signer is None)


def _outcome(target: str, standing: Standing) -> str:
    shadow = standing.shadow
    assert shadow is not None
    if not shadow.is_candidate:
        return f"installed: {standing.current} forecasts {target} now; {shadow.model} is watched beside it, to come back if this one is worse"
    plan = f"forecasts {target} in shadow beside {standing.current} for {shadow.days} days, then takes over if its score is no worse"
    return f"installed: {shadow.model} {plan}{' (not while a model is pinned)' if standing.pinned else ''}"
