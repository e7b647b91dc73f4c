"""The API: what people and programs see over HTTP."""
