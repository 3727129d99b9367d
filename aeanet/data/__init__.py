"""Pairs of images: found, registered, simulated, cut into crops."""
