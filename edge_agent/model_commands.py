"""What `hearthcast-agent install` and `models …` do: functions of settings that yield lines to print."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.config import Settings
from edge_agent.contract.bundle import Bundle, read_bundle, read_shipped_bundle
from edge_agent.contract.errors import BundleError, ConfigError, closest
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from edge_agent.install import Wishes, install, trusted_keys
from edge_agent.standing import SHIPPED, Standing
from edge_agent.store import ModelStore


def install_lines(options: Namespace, house: HouseSpec, house_text: str, settings: Settings) -> Iterator[str]:
    """Install a bundle."""
    if not 0 <= options.shadow_days <= 90:
        raise ConfigError(f"--shadow-days {options.shadow_days}: 0 (at once) to 90 is expected")
    wishes = Wishes(
        target=options.target,
        days=options.shadow_days,
        allow_unsigned=settings.allow_unsigned,
        allow_downgrade=options.allow_downgrade,
        any_house=options.any_house,
    )
    yield from install(options.source, house=house, house_text=house_text, store=ModelStore(settings.state_dir), wishes=wishes)


def list_lines(settings: Settings) -> Iterator[str]:
    """What is installed, and how it came to be."""
    store = ModelStore(settings.state_dir)
    for target in store.targets():
        standing = store.standing(target)
        yield f"{target}{' (pinned)' if standing.pinned else ''}"
        yield f"  {'current':9} {_about(store, target, standing.current)}"
        if standing.shadow is not None:
            yield f"  {'shadow':9} {_about(store, target, standing.shadow.model)}"
            yield f"  {'':9} {_plan(standing)}"
        if standing.previous is not None and (standing.shadow is None or standing.shadow.model != standing.previous):
            yield f"  {'previous':9} {_about(store, target, standing.previous)}"
        yield from (f"  {iso_utc(at)} {what}" for at, what in standing.events)
    if not store.targets():
        yield f"no model is installed in {store.path}: every target is forecast by what ships; add one with hearthcast-agent install BUNDLE"


def check_lines(settings: Settings, bundle: Path | None) -> Iterator[str]:
    """Whether this machine reproduces the forecast that each model was exported with: the one in `bundle`, or all in use.

    Raises:
        BundleError: one of them is damaged, or comes to another forecast.
    """
    import platform
    from importlib.metadata import version

    from edge_agent.forecaster import GOLDEN_TOLERANCE, Model

    yield f"{platform.machine()}, Python {platform.python_version()}, ONNX Runtime {version('onnxruntime')}"
    for checked in [read_bundle(bundle, trusted=trusted_keys(ModelStore(settings.state_dir)))] if bundle else _in_use(ModelStore(settings.state_dir)):
        model, manifest = Model(checked), checked.manifest
        begun = time.perf_counter()
        worst = model.check_golden()
        took_ms = 1e3 * (time.perf_counter() - begun)
        yield (
            f"{manifest.name} {manifest.version} ({manifest.id}): signature, hashes and graph are in order; its worked example differs by "
            f"{worst:.1e} of its largest value (allowed {GOLDEN_TOLERANCE:g}), in {took_ms:.0f} ms"
        )


def _in_use(store: ModelStore) -> Iterator[Bundle]:
    """Bundles of all models that forecast, or wait to, and what ships."""
    for target in store.targets():
        standing = store.standing(target)
        for model in sorted(set(standing.models) - {SHIPPED}):
            yield read_bundle(store.bundle(target, model), trusted=trusted_keys(store), allow_unsigned=model in standing.unsigned)
    shipped = read_shipped_bundle()
    if shipped is not None:
        yield shipped


def _about(store: ModelStore, target: str, model: str) -> str:
    if model == SHIPPED:
        return f"{SHIPPED:16}  the base model in the package, or the climatology"
    try:
        bundle = read_bundle(store.bundle(target, model), trusted=trusted_keys(store), allow_unsigned=True)
    except BundleError as err:
        return f"{model}  DAMAGED: {err}"
    manifest = bundle.manifest
    return f"{model}  {manifest.name} {manifest.version}, made {manifest.created_at}, {f'signed: {bundle.signer}' if bundle.signer else 'not signed'}"


def _plan(standing: Standing) -> str:
    shadow = standing.shadow
    assert shadow is not None
    held = "; held by the pin" if standing.pinned else ""
    if not shadow.is_candidate:
        return f"watched, to come back if the current one falls behind{held}"
    return f"since {iso_utc(shadow.since)}; takes over if its score over {shadow.days} days is no worse{held}"


def pin_lines(settings: Settings, target: str, wanted: str | None) -> Iterator[str]:
    """Hold a model, whatever the scores."""

    def pinned(store: ModelStore, standing: Standing, now: int) -> Standing:
        model = standing.current if wanted is None else _model(standing, wanted)
        _check_usable(store, target, model)
        return standing.with_current(model, now=now).with_pin(pinned=True, now=now)

    standing = _changed(settings, target, pinned)
    yield f"{target}: {standing.current} is pinned: only you change it, with hearthcast-agent models unpin, pin or rollback"


def unpin_lines(settings: Settings, target: str) -> Iterator[str]:
    """Let the scores decide again."""
    standing = _changed(settings, target, lambda _, standing, now: standing.with_pin(pinned=False, now=now))
    yield f"{target}: {standing.current} is not pinned"


def rollback_lines(settings: Settings, target: str) -> Iterator[str]:
    """Back to the model before."""

    def rolled_back(store: ModelStore, standing: Standing, now: int) -> Standing:
        if standing.previous is None:
            raise ConfigError(f"{target}: {standing.current} is the first: there is nothing to roll back to; see hearthcast-agent models list")
        _check_usable(store, target, standing.previous)
        return standing.with_current(standing.previous, now=now)

    standing = _changed(settings, target, rolled_back)
    yield f"{target}: {standing.current} forecasts again; a running agent sees it within its next step"


def _changed(settings: Settings, target: str, change: Callable[[ModelStore, Standing, int], Standing]) -> Standing:
    store = ModelStore(settings.state_dir)
    if target not in store.targets():
        known = closest(target, store.targets()) if store.targets() else "nothing is installed"
        raise ConfigError(f"no model was installed for target {target!r} in {store.path}: {known}")
    with store.locked():
        standing = change(store, store.standing(target), int(time.time()))
        store.save(target, standing)
    return standing


def _model(standing: Standing, wanted: str) -> str:
    """The model whose id begins with `wanted`."""
    known = sorted({SHIPPED, *standing.models})
    found = [model for model in known if model.startswith(wanted)]
    if len(found) != 1:
        raise ConfigError(f"{wanted!r} is {'several models' if found else 'no installed model'}: one of {', '.join(known)} is expected")
    return found[0]


def _check_usable(store: ModelStore, target: str, model: str) -> None:
    """See that the agent will be able to use the model.

    Raises:
        BundleError: it is damaged, or nobody trusts its signer any more.
    """
    if model != SHIPPED:
        read_bundle(store.bundle(target, model), trusted=trusted_keys(store), allow_unsigned=model in store.standing(target).unsigned)
