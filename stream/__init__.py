"""The three loops (encode, decide, index) and what they stand on."""
