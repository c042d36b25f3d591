"""APIs of Multi Model Server and SageMaker."""
