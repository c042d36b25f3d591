"""What is for people: the page, the results, the webcam, the models page."""
