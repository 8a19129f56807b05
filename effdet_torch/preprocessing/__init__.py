"""An encoded image to the network's input."""
