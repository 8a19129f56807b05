"""Weights for others: a model card that states what records prove, and folders as hubs have them."""
