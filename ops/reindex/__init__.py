"""The index rebuilt from the ledger beside the one in use: built, compared with the ledger, switched."""
