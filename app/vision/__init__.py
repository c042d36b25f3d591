"""Image processing from bytes to arrays: safe decoding, preprocessing for the model, and face detection."""
