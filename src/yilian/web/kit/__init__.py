"""Pieces of the API that know no workflow: authentication, problem details, paging, events, texts."""
