"""The embedded provider: a generator of plausible, schema-valid text behind a real HTTP server. Not a language model."""
