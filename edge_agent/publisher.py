"""What the agent publishes, and where: `hearthcast/<site>/…`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent import homeassistant
from edge_agent.comparison import Comparison
from edge_agent.config import Settings
from edge_agent.contract.forecast import Forecast
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from edge_agent.forecaster import Forecaster
from edge_agent.lineup import Place
from edge_agent.mqtt import BrokerLink
from edge_agent.schedule import lifetime_s


class Publisher:
    """Puts forecasts, health and announcements on their retained topics."""

    def __init__(self, house: HouseSpec, settings: Settings, link: BrokerLink) -> None:
        self.house, self.settings, self.link = house, settings, link
        self.base = base_of(house, settings)
        self.lifetime_s = lifetime_s(settings.forecast_at, step_s=house.step_s)

    def announce(self, *, announced_before: Sequence[str]) -> list[str]:
        """Discovery, so that entities exist before their states come.

        Args:
            announced_before: discovery topics of an earlier configuration; those that are no longer used are removed from the broker. (Not simply all
                topics of the other form: Home Assistant takes an empty message there for a conflict.)

        Returns:
            The discovery topics used now.
        """
        settings = self.settings
        messages: dict[str, str] = {}
        if settings.discovery != "off":
            where = {"prefix": settings.discovery_prefix, "base": self.base}
            messages = homeassistant.discovery(self.house, form=settings.discovery, expire_after_s=self.lifetime_s, **where)
        for topic in announced_before:
            if topic not in messages:
                self.link.publish(topic, b"", retain=True)
        for topic, payload in messages.items():
            self.link.publish(topic, payload, retain=True)
        return list(messages)

    def models(self, places: Sequence[Place], comparisons: Mapping[str, Comparison]) -> None:
        """What forecasts each target, and how what is tried beside it does (by target)."""
        self.link.publish(f"{self.base}/model", dump(model_payload(self.house, places, comparisons)), retain=True)

    def forecast(self, forecast: Forecast) -> dict[str, Any]:
        """Publish the full series, and the hourly one that entities read; returns the hourly one in canonical units."""
        topic = f"{self.base}/forecast/{forecast.target}"
        hourly = forecast.to_hourly_payload()
        self.link.publish(topic, dump(forecast.to_payload()), retain=True, lifetime_s=self.lifetime_s)
        self.link.publish(homeassistant.hourly_topic(topic), dump(homeassistant.hourly_payload(hourly)), retain=True, lifetime_s=self.lifetime_s)
        return hourly

    def score(self, payload: dict[str, Any]) -> None:
        """How good a target's forecasts were."""
        self.link.publish(f"{self.base}/score/{payload['target']}", dump(payload), retain=True)

    def health(self, payload: dict[str, Any]) -> None:
        """How the agent is."""
        self.link.publish(f"{self.base}/health", dump(payload), retain=True)


def base_of(house: HouseSpec, settings: Settings) -> str:
    """Root of the agent's own topics."""
    return f"{settings.base_topic}/{house.site}"


def model_payload(house: HouseSpec, places: Sequence[Place], comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    """The `model` message (schema 1): what forecasts each target, and what is tried beside it."""
    models = {}
    for place in places:
        about = models[place.target] = _about(place.live)
        if place.standing is not None:
            about["pinned"] = place.standing.pinned
        if place.standing is not None and place.standing.shadow is not None and place.shadow is not None:
            shadow = place.standing.shadow
            about["shadow"] = {**_about(place.shadow), "since": iso_utc(shadow.since), "days": shadow.days, "candidate": shadow.is_candidate}
            comparison = comparisons.get(place.target)
            if comparison is not None and comparison.shadow == place.shadow.model_id:
                about["shadow"] |= comparison.summary
    return {"schema": 1, "site": house.site, "models": models}


def _about(forecaster: Forecaster) -> dict[str, Any]:
    about: dict[str, Any] = {**forecaster.identity, "id": forecaster.model_id}
    if forecaster.model is not None:
        manifest = forecaster.model.bundle.manifest
        about |= {key: getattr(manifest, key) for key in ("created_at", "git_commit", "mlflow_run_id", "scores", "training")}
        about["signer"] = forecaster.model.bundle.signer
    return about


def dump(payload: dict[str, Any]) -> str:
    """Compact JSON; refuses NaN, which is no JSON and which controllers choke on."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False)
