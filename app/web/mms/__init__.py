"""Multi Model Server's API, and SageMaker's."""
