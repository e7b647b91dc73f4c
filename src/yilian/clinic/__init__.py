"""Published clinical calculations, each with its source; floats are allowed here, never inside consensus."""
