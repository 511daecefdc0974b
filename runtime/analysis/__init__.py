"""What a run costs and whether it is sound: schedule, profile, trace, races, taint."""
