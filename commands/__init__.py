"""One file per command: it parses, calls one function, prints, and sets the exit status."""
