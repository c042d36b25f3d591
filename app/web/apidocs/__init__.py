"""What the server says about itself: the two documents of Multi Model Server, as its clients know them, and one of
OpenAPI 3.1 about everything that Dimple answers, with a page to try it out."""
