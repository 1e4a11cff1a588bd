"""Proofs that the agent can be trusted with a house: long, hard runs of the real program against a real broker."""
