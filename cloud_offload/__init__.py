"""The endpoint that runs tails and whole models for devices."""
