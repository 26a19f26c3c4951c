"""From a YAML file to a validated graph of stages."""
