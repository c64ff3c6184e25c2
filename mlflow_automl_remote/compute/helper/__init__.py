"""The control helper: does all work on a target, for a client that sends it down its channel.

Only the standard library, and nothing newer than Python 3.8, because it runs as the `python3` of a
machine that we know nothing about. Nothing of it is installed there. It knows no path of its own,
runs no shell, and ends when its standard input does.
"""

from __future__ import annotations
