"""What Triton loads."""
