"""From a trained model to a folder that serves: model card, probes, load in a fresh process, hub."""
