"""From regions to detections: the pipeline, the ensemble of region networks, suppression."""
