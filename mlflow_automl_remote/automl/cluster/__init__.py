"""Runs the calls of a sweep on a Ray cluster. Imported only when one is asked for."""
