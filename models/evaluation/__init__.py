"""How well copies are told from other pictures, as figures that anyone can take: `dejaview eval`."""
