"""Training jobs: one page of loop each, and the run folder they share."""
