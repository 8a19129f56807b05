"""Image files to drawings and JSON."""
