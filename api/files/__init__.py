"""Files that commands read and write: arrays, inputs and outputs of runs."""
