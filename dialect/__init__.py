"""The dialects `torch`, `nm` and `sta`, one file each, and their interpreters."""
