"""An existing library judged and indexed before, or beside, live traffic."""
