"""A whole consortium in one test process: small real implementations of what lies outside."""
