"""Where two graphs differ: outputs, layers and joints."""
