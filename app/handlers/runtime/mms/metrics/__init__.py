"""Metrics that handlers leave."""

from __future__ import annotations

from mms.metrics import dimension, metric, metric_encoder, metrics_store, system_metrics, unit

__all__ = ["dimension", "metric", "metric_encoder", "metrics_store", "system_metrics", "unit"]
