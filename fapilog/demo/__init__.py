"""Run the example shop under a real server, send it traffic, and query what it logged."""
