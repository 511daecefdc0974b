"""The page of the report: HTML, CSS and JavaScript."""
