"""Sweeps over machines; still empty."""
