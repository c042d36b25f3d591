"""Pages for people: the form, the results, the webcam and the models page."""
