"""`dejaview doctor`: looks at everything a deployment depends on, and says what to fix.

Facts are gathered at the edge (`broker.py`, `index.py`, `model.py`, `intake.py`) and judged by pure functions
(`setup.py`, `topics.py`, `groups.py`, `chain.py`, `clock.py`): facts in, findings out.
"""
