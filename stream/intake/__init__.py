"""From an upload to pixels: fetch what a reference names, decode it where it can do no harm.

`fetch.py` is the way in for references, `sandbox.py` for bytes. Everything hostile is met here:
addresses in `addresses.py`, pictures in `decode.py`, which runs in a child process only.
This module stays empty: decoder processes import it, and every import is start-up time.
"""
