"""Where bars and metadata come from: the provider's REST API and its flat files."""
