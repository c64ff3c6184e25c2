"""What runs on the target: carries out a sweep and records it. Knows no SSH."""
