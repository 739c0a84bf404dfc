"""The contracts: what travels on dejaview's topics, as pydantic models and CloudEvents."""
