"""The demo: the whole of dejaview in one program, on pictures that are already on this machine."""
