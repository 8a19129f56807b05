"""A model on a dataset: pipeline, detections, COCO's metrics, published results."""
