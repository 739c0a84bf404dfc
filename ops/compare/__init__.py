"""Two deployments' verdicts on the same uploads, side by side."""
