"""The append-only record of a sweep, of which everything else is a fold."""
