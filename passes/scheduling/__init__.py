"""The order of operations on the units, and the semaphores that keep it."""
