"""Results for readers: terminal, Markdown, HTML, and records on disk."""
