"""Mutations of files: functions from bytes and a random generator to damaged bytes."""
