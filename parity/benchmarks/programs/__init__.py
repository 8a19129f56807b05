"""Programs that are measured in processes of their own, so that their memory is their own: `process.py` runs them."""
