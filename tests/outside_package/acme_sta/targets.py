"""Presets."""

import dataclasses

from sta.spec.target import load_target

FAST = dataclasses.replace(load_target("sta-base"), name="acme-fast", clock_mhz=400)
