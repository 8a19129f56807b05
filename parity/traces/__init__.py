"""One run of a network, whoever made it."""
