"""Logs what process it runs in."""

import logging
import os


class LoggingService:
    def initialize(self, context):
        logging.info("LoggingService init [%d]", os.getpid())

    def handle(self, data, context):
        logging.info("LoggingService inference [%d]", os.getpid())
        return ["OK"] * len(data)
