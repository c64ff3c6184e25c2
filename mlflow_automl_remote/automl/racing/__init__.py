"""The search against the clock: pipelines race on the first fold, and only the best go on."""
