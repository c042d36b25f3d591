"""What happens around every request, whatever it asks: who may, what is counted, which headers."""
