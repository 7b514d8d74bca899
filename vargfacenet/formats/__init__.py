"""Files and their formats: checkpoints, graphs, arrays and images, read without trusting what they say."""
