"""Trains the encoder to put edited copies of a picture close together and everything else apart: `dejaview train`."""
