"""Cost and soundness of a run: schedule, profile, trace, races, taint."""
