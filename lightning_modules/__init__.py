"""What learns: networks, the three losses, regions, inference."""
