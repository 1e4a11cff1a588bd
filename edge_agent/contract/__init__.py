"""What trainer, exporter and agent must agree on: numpy and the standard library only (signing adds cryptography)."""
