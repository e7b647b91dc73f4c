"""The story that `yilian demo` plays, through public faces only, and the generator of its residents."""
