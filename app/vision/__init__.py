"""Bytes of pictures in, arrays out: safe decoding, preprocessing as the model asks for it, and faces."""
