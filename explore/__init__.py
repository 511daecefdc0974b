"""Studies of the effect of policies on plans: of tiling so far."""
