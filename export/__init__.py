"""The exporter: a trained Keras model becomes a bundle that is proven, by the agent's own code, to forecast what Keras forecasts."""
