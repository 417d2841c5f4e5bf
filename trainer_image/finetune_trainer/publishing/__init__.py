"""What the user takes home: the adapter or model, its card and manifest."""
