"""Besom's own app: from settings to a trained network."""
