"""Pictures of maps: heatmaps, overlays, sheets and figures."""
