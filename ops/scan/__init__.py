"""Finds the copies in a folder, without any server: `dejaview scan`."""
