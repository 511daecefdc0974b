"""IR as files and text: contexts, weights beside it, reading, printing, locations."""
