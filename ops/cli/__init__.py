"""The commands of `dejaview`, one file each."""
