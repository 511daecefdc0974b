"""Shared helpers of passes to inspect and change IR."""
