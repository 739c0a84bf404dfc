"""Fits what ships beside the weights: `python -m models.fit background` and `python -m models.fit calibration`."""
