"""How good the forecasts are: Hearthcast beside what else a home could use, on the same origins of the same homes. `make accuracy`."""
