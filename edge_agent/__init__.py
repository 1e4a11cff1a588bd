"""The gateway's program: reads sensors over MQTT, publishes forecasts. Light by design: see pyproject's `edge` extra."""

__version__ = "0.1.0"
