"""What several tests build: pictures, fingerprints, an offline judge."""
