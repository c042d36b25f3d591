"""Pictures, arrays and sentences, for handlers that compute with MXNet."""
