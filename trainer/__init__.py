"""The workstation's program: trains the forecaster with Keras, tracks it with MLflow; imports edge_agent.contract and never runs on the gateway."""
