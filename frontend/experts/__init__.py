"""Mixtures of experts in exported programs, as every expert on every token."""
