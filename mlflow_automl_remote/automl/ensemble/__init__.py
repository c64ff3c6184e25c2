"""Ensembles of finished iterations, from the predictions they left: nothing is fitted again."""
